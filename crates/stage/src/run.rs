//! An opened run: settings, inputs, the key, and the question whether anything is to be done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::{Value, json};

use crate::config::Layers;
use crate::input::{Input, changed, check_unchanged};
use crate::manifest::{FORMAT, File, Manifest, Source};
use crate::settings::digest;
use crate::store::{Found, Lock, STORE, Store};
use crate::together::{self, Told};
use crate::work::{Desk, What, Work, clear};
use crate::{Common, Fail, Outcome, STAGES, Scalars, Section, Settings, Shards, Sharing, Spec, exit_code, log};

/// What [`Run::begin`] found.
#[derive(Debug)]
pub enum Begin<'run> {
    /// The result is not in the store: compute.
    Work(Box<Work<'run>>),
    /// Stop here, with this outcome.
    Stop(Outcome),
}

/// What [`Run::step`] found.
#[derive(Debug)]
pub enum Step<'run> {
    /// The store has the step's result.
    Done(Input),
    /// Compute it.
    Work(Box<Work<'run>>),
}

/// One stage's view of one run.
#[derive(Debug)]
pub struct Run {
    spec: Spec,
    common: Common,
    desk: Desk,
    layers: Layers,
    /// The checked settings, all of them.
    settings: Value,
    execution: &'static [&'static str],
    inputs: Vec<Source>,
    /// What stands for the digests of outside data in the name of the shards' folder, by label.
    stand_ins: BTreeMap<String, String>,
    /// Held while the run is open: no clean-up removes what it reads.
    _shared: Option<Lock>,
}

impl Run {
    /// Reads the configuration layers, checks the stage's settings, and starts the log; computes nothing.
    ///
    /// # Errors
    /// Exit code 2 for a bad run name or configuration.
    pub fn open<C: Settings>(spec: &Spec, common: &Common) -> Result<(Self, C), Fail> {
        log::start(common.verbose, common.quiet);
        let (name, plain) = (&common.run, |c: char| c.is_ascii_alphanumeric() || "._-".contains(c));
        if name.is_empty() || name.starts_with('.') || name == STORE || !name.chars().all(plain) {
            return Err(Fail::usage(anyhow!(
                "run name {name:?}: expected letters, digits, '.', '_' or '-', no '.' in front, and not {STORE:?}"
            )));
        }
        if common.sharing.shard.is_some() && (common.force || common.sharing.merge) {
            let other = if common.force { "--force" } else { "--merge" };
            return Err(Fail::usage(anyhow!("--shard and {other} do not go together")).hint(
                "shards compute what is missing and publish nothing; the command that publishes takes no --shard",
            ));
        }
        if common.sharing.shard.is_some() && !ranks::world().is_alone() {
            return Err(Fail::usage(anyhow!("--shard by {} ranks, expected one process", ranks::world().size()))
                .hint("ranks divide the work among themselves; a shard is a process of its own"));
        }
        let layers = Layers::read(spec, common)?;
        let config: C = layers.parse()?;
        config.check(Section(spec.name))?;
        let settings = serde_json::to_value(&config).map_err(Fail::failed)?;
        let reads_only = common.print_config || common.dry_run || common.check;
        let store = Store::open(&common.artifacts_dir, &common.cache_dir, !common.print_config, reads_only)?;
        let shared = if reads_only { None } else { store.share()? };
        let run = Run {
            spec: *spec,
            common: common.clone(),
            desk: Desk {
                store,
                run: common.run.clone(),
                started: std::time::SystemTime::now(),
                verified: Arc::default(),
            },
            layers,
            settings,
            execution: C::EXECUTION,
            inputs: Vec::new(),
            stand_ins: BTreeMap::new(),
            _shared: shared,
        };
        Ok((run, config))
    }

    /// Whether `--shard` or `--merge` was said.
    pub fn is_divided(&self) -> bool {
        self.common.sharing.shard.is_some() || self.common.sharing.merge
    }

    /// What the user set for `stage.key` of any section; `None` where nothing was said.
    pub fn setting(&self, dotted: &str) -> Option<&toml::Value> {
        self.layers.setting(dotted)
    }

    /// What another stage would have for `stage.key` with this configuration, said or by default. It is what that stage
    /// did only where all stages are given the same: in `--check`.
    pub fn planned(&self, dotted: &str) -> Option<&toml::Value> {
        self.layers.planned(dotted)
    }

    /// The stage's name.
    pub fn stage(&self) -> &'static str {
        self.spec.name
    }

    /// The run's name.
    pub fn name(&self) -> &str {
        &self.common.run
    }

    /// The seed of trainings and draws.
    pub fn seed(&self) -> u64 {
        self.common.seed
    }

    /// At most so many images per split.
    pub fn limit(&self) -> Option<usize> {
        self.common.limit
    }

    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub fn device(&self) -> &str {
        &self.common.device
    }

    /// `--dry-run`.
    pub fn dry_run(&self) -> bool {
        self.common.dry_run
    }

    /// `--check`: [`Run::begin`] says nothing and stops.
    pub fn check(&self) -> bool {
        self.common.check
    }

    /// Answers `--print-config`: prints the effective section as TOML and returns true.
    ///
    /// # Errors
    /// The reader of stdout went away.
    pub fn printed_config(&self) -> Result<bool, Fail> {
        let asked = self.common.print_config && !self.common.check;
        if asked {
            let table = toml::Table::from_iter([(
                self.spec.name.to_owned(),
                toml::Value::Table(self.layers.effective().clone()),
            )]);
            log::print(&toml::to_string(&table).map_err(Fail::failed)?)?;
        }
        Ok(asked)
    }

    /// The files of `stage` whose names begin with one of `prefixes`, checked against its manifest.
    /// Their contents become part of this stage's key.
    ///
    /// # Errors
    /// Exit code 3 where the stage has not run in this run, was edited since, or is itself out of date. In `--dry-run` and
    /// `--check` that is no failure but the end, with exit code 0: the stage would run first.
    pub fn input(&mut self, stage: &str, prefixes: &[&str]) -> Result<Input, Fail> {
        self.sound_input(stage, prefixes).map_err(|fail| {
            if self.common.dry_run && fail.is_missing() {
                tracing::info!("{}: would run after {stage}", self.spec.name);
            }
            if self.common.dry_run || self.common.check { fail.unless_missing() } else { fail }
        })
    }

    fn sound_input(&mut self, stage: &str, prefixes: &[&str]) -> Result<Input, Fail> {
        let again = |fail: Fail| match fail.hint {
            None => fail.hint(format!("run just {stage} to make it again")),
            Some(_) => fail,
        };
        let found = self.desk.store.linked(&self.common.run, stage).map_err(again)?.ok_or_else(|| {
            Fail::missing(anyhow!("{} needs {stage}, which has not run in run {}", self.spec.name, self.common.run))
                .hint(format!("run just {stage} first"))
        })?;
        self.check_fresh(stage, &found.manifest)?;
        let wanted = |file: &&File| prefixes.iter().any(|prefix| file.name.starts_with(prefix));
        let files: Vec<&File> = found.manifest.outputs.iter().filter(wanted).collect();
        if files.is_empty() {
            let expected = prefixes.join(", ");
            let message = anyhow!("{}: no file {expected} was published there", found.folder.display());
            return Err(Fail::missing(message).hint(format!("run just {stage} --force first")));
        }
        for file in &files {
            check_unchanged(&found, file, self.common.verify).map_err(again)?;
        }
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let hashes = files.iter().map(|file| (file.name.clone(), file.blake3.clone())).collect();
        let key = Some(found.manifest.key.clone());
        self.inputs.push(Source { stage: stage.to_owned(), key, place: None, files: hashes });
        Ok(Input::of(found, names, &self.desk.verified))
    }

    /// As [`Run::input`], and `None` where the stage has not run in this run: for what a stage can do without.
    ///
    /// # Errors
    /// As [`Run::input`], where it did run.
    pub fn optional_input(&mut self, stage: &str, prefixes: &[&str]) -> Result<Option<Input>, Fail> {
        match self.desk.store.linked(&self.common.run, stage)? {
            None => Ok(None),
            Some(_) => self.input(stage, prefixes).map(Some),
        }
    }

    /// Makes data from outside part of the key, by a digest of their contents; `place` is recorded.
    pub fn outside(&mut self, label: &str, digest: String, place: Option<&Path>) {
        let files = BTreeMap::from([(label.to_owned(), digest)]);
        // A manifest is UTF-8.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let place = place.map(|path| if files::is_remote(path) { path.to_owned() } else { absolute(path) });
        let place = place.map(|path| PathBuf::from(path.to_string_lossy().into_owned()));
        self.inputs.push(Source { stage: label.to_owned(), key: None, place, files });
    }

    /// Until the contents of the outside data `label` are known, `quick` stands for them: shards, of which none reads all of
    /// the data, keep their shares under it.
    pub fn stand_in(&mut self, label: &str, quick: &str) {
        self.stand_ins.insert(label.to_owned(), quick.to_owned());
    }

    /// What shards keep of the result that the settings and the inputs named so far make.
    pub fn shards(&self) -> Shards {
        let mut inputs = self.inputs.clone();
        inputs.retain(|input| !self.stand_ins.contains_key(&input.stage));
        for (label, quick) in &self.stand_ins {
            let files = BTreeMap::from([(label.clone(), quick.clone())]);
            inputs.push(Source { stage: label.clone(), key: None, place: None, files });
        }
        let folder = self.desk.store.partial(self.spec.name, &self.key_of(&inputs));
        Shards::new(self.spec.name, folder, self.common.sharing)
    }

    /// The digest that `compute` gives, which is remembered under `quick`, a cheap stand-in for the contents such as a
    /// digest of names, sizes and dates: the next time the contents are not read. A dry run and a shard read no contents,
    /// and take the stand-in where nothing is remembered.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn remembered<E>(&self, quick: &str, compute: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
        if let Some(digest) = self.desk.store.note(quick) {
            return Ok(digest);
        }
        if self.common.dry_run || self.common.check || self.common.sharing.shard.is_some() {
            return Ok(quick.to_owned());
        }
        let digest = compute()?;
        self.desk.store.remember(quick, &digest);
        Ok(digest)
    }

    /// The text that `compute` gives, which is kept under `name`, 64 hex digits that stand for what it is computed from. A
    /// dry run keeps nothing.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn kept<E>(&self, name: &str, compute: &mut dyn FnMut() -> Result<String, E>) -> Result<String, E> {
        if let Some(text) = self.desk.store.kept(name) {
            return Ok(text);
        }
        let text = compute()?;
        if !self.common.dry_run {
            self.desk.store.keep(name, &text);
        }
        Ok(text)
    }

    /// A result of `stage`, of whatever run, whose part `part` has that digest, with its files whose names begin with
    /// `prefix`, their contents verified: for work that can be taken over. Damaged ones are passed over with a warning.
    pub fn reusable(&self, stage: &str, part: &str, digest: &str, prefix: &str) -> Option<Input> {
        self.desk.store.keys(stage).into_iter().find_map(|key| {
            let found = self.desk.store.find(stage, &key).ok()??;
            let manifest = &found.manifest;
            if manifest.parts.get(part).map(String::as_str) != Some(digest) {
                return None;
            }
            let files: Vec<&File> = manifest.outputs.iter().filter(|file| file.name.starts_with(prefix)).collect();
            if let Err(fail) = found.check(&files, &self.desk.verified) {
                tracing::warn!("not used: {fail}");
                return None;
            }
            let names = files.into_iter().map(|file| file.name.clone()).collect();
            Some(Input::of(found, names, &self.desk.verified))
        })
    }

    /// Makes a value beside the settings part of the key, and of the settings that are recorded.
    pub fn also(&mut self, name: &str, value: Value) {
        self.settings[name] = value;
    }

    /// Whether to compute. Says so, and why; heeds `--force`, `--verify` and `--dry-run`. A result that the store has is
    /// linked at once, whoever made it.
    ///
    /// # Errors
    /// Exit code 1 where another process computes the same result, or where results could not be published.
    ///
    /// Of several ranks, rank 0 asks and the others do what it does, in a private folder.
    pub fn begin(&self) -> Result<Begin<'_>, Fail> {
        if self.common.check {
            return Ok(Begin::Stop(Outcome::Nothing));
        }
        let key = self.key();
        if !ranks::world().leads() {
            return Ok(match together::told(&key)? {
                Told::Work => Begin::Work(Box::new(Work::follow(&self.desk, self.what(key), self.spec.name)?)),
                Told::Stop(outcome) => Begin::Stop(outcome),
            });
        }
        let begun = self.begin_alone(key.clone())?;
        match &begun {
            Begin::Work(_) => together::tell(&key, Told::Work),
            Begin::Stop(outcome) => together::tell(&key, Told::Stop(*outcome)),
        }
        Ok(begun)
    }

    fn begin_alone(&self, key: String) -> Result<Begin<'_>, Fail> {
        let name = self.spec.name;
        // A damaged manifest of an earlier result is in nobody's way.
        let linked = match self.desk.store.linked(&self.common.run, name) {
            Err(fail) if fail.code == exit_code::BAD_DATA => None,
            linked => linked?,
        };
        let linked_key = linked.as_ref().map(|found| found.manifest.key.clone());
        let mut why = match self.desk.store.find(name, &key) {
            Ok(Some(found)) => match changed(&found, self.common.verify) {
                damage if damage.is_empty() && !self.common.force => {
                    return Ok(Begin::Stop(self.current(&found, linked_key.as_deref() == Some(&key))?));
                }
                damage if damage.is_empty() => vec!["--force".to_owned()],
                damage => damage,
            },
            Ok(None) => linked.map_or(vec!["not run yet".to_owned()], |before| self.changes(&before.manifest)),
            // No connection, perhaps, is no reason to compute.
            Err(fail) if self.desk.store.is_remote() && fail.code != exit_code::BAD_DATA => return Err(fail),
            Err(damaged) => vec![damaged.to_string()],
        };
        if why.is_empty() {
            why.push("its result is not in the store".to_owned());
        }
        let why = why.join("; ");
        if self.common.dry_run {
            tracing::info!("{name}: would run ({why})");
            return Ok(Begin::Stop(Outcome::Nothing));
        }
        match self.common.sharing.shard {
            Some(shard) => tracing::info!("{name}: runs shard {shard} ({why})"),
            None => tracing::info!("{name}: runs ({why})"),
        }
        let work = Work::open(&self.desk, self.what(key), self.shards(), true)?;
        // Another process may have published it before this one got the lock.
        match self.desk.store.find(name, work.key()) {
            Ok(Some(found)) if !self.common.force && changed(&found, self.common.verify).is_empty() => {
                drop(work);
                Ok(Begin::Stop(self.current(&found, false)?))
            }
            _ => Ok(Begin::Work(Box::new(work))),
        }
    }

    fn what(&self, key: String) -> What {
        What {
            stage: self.spec.name.to_owned(),
            version: self.spec.version,
            key,
            config: self.settings.clone(),
            execution: self.execution.iter().map(|&key| key.to_owned()).collect(),
            seed: self.spec.seeded.then_some(self.common.seed),
            limit: self.common.limit,
            inputs: self.inputs.clone(),
        }
    }

    /// A step whose result is of use beyond this one: a training. `config` is recorded.
    ///
    /// # Errors
    /// As [`Run::begin`].
    pub fn step(&self, name: &str, key: &str, config: Value) -> Result<Step<'_>, Fail> {
        self.step_of((name, key), config, Sharing::default())
    }

    /// As [`Run::step`], of work that is divided as `--shard` says.
    ///
    /// # Errors
    /// As [`Run::begin`].
    pub fn divided_step(&self, name: &str, key: &str, config: Value) -> Result<Step<'_>, Fail> {
        self.step_of((name, key), config, self.common.sharing)
    }

    fn step_of(&self, (name, key): (&str, &str), config: Value, sharing: Sharing) -> Result<Step<'_>, Fail> {
        let what = What {
            stage: name.to_owned(),
            version: self.spec.version,
            key: key.to_owned(),
            config,
            seed: Some(self.common.seed),
            ..What::default()
        };
        if !ranks::world().leads() {
            return Ok(match together::told(key)? {
                Told::Work => Step::Work(Box::new(Work::follow(&self.desk, what, self.spec.name)?)),
                Told::Stop(_) => {
                    Step::Done(Input::whole(self.desk.store.await_result(name, key)?, &self.desk.verified))
                }
            });
        }
        let step = self.step_alone((name, key), what, sharing)?;
        let told = if let Step::Work(_) = step { Told::Work } else { Told::Stop(Outcome::Current) };
        together::tell(key, told);
        Ok(step)
    }

    fn step_alone(&self, (name, key): (&str, &str), what: What, sharing: Sharing) -> Result<Step<'_>, Fail> {
        if let Some(found) = self.sound(name, key)? {
            clear(&self.desk.store.partial(name, key));
            return Ok(Step::Done(Input::whole(found, &self.desk.verified)));
        }
        let shards = Shards::new(self.spec.name, self.desk.store.partial(name, key), sharing);
        let work = Work::open(&self.desk, what, shards, false)?;
        match self.sound(name, key)? {
            Some(found) => Ok(Step::Done(Input::whole(found, &self.desk.verified))),
            None => Ok(Step::Work(Box::new(work))),
        }
    }

    /// The result with that key, its contents verified; `None` where there is none, or a damaged one.
    fn sound(&self, name: &str, key: &str) -> Result<Option<Found>, Fail> {
        let whole = self.desk.store.find(name, key).and_then(|found| {
            let Some(found) = found else { return Ok(None) };
            let files: Vec<&File> = found.manifest.outputs.iter().collect();
            found.check(&files, &self.desk.verified)?;
            Ok(Some(found))
        });
        match whole {
            // A training takes longer than to mend a connection.
            Err(fail)
                if self.desk.store.is_remote() && ![exit_code::BAD_DATA, exit_code::MISSING].contains(&fail.code) =>
            {
                Err(fail)
            }
            Err(fail) => {
                tracing::warn!("{fail}; it is made again");
                Ok(None)
            }
            whole => whole,
        }
    }

    /// The files of that name that results and interrupted works of a step have, those of `key` left out.
    pub fn others(&self, step: &str, key: &str, file: &str) -> Vec<PathBuf> {
        let folder = self.desk.store.root().join(step);
        let names = crate::store::entries(&folder).unwrap_or_default();
        let others = names.into_iter().filter(|name| !name.starts_with(key));
        others.map(|name| folder.join(name).join(file)).filter(|path| path.is_file()).collect()
    }

    /// Links the result to this run.
    fn current(&self, found: &Found, is_linked: bool) -> Result<Outcome, Fail> {
        let name = self.spec.name;
        let reads: Vec<&str> = self.inputs.iter().filter(|i| i.key.is_some()).map(|i| i.stage.as_str()).collect();
        let unless = match self.common.dry_run && !reads.is_empty() {
            true => format!(", unless {} runs before it", reads.join(" or ")),
            false => String::new(),
        };
        match (is_linked, self.common.dry_run) {
            (true, _) => tracing::info!("{name}: current{unless}"),
            (false, true) => {
                tracing::info!("{name}: would link the result in the store, {}{unless}", found.manifest.made_by());
                return Ok(Outcome::Nothing);
            }
            (false, false) => {
                clear(&self.desk.store.partial(name, &found.manifest.key));
                self.desk.store.point(&self.common.run, name, &found.manifest.key)?;
                tracing::info!("{name}: current, {}", found.manifest.made_by());
            }
        }
        Ok(Outcome::Current)
    }

    /// The files that TensorBoard reads, if `--tensorboard` asks for them.
    pub fn scalars(&self) -> Scalars {
        let name = format!("{}-{}", self.spec.name, &self.key()[..8]);
        if !ranks::world().leads() {
            return Scalars::nowhere();
        }
        Scalars::new(self.common.tensorboard.as_ref().map(|folder| folder.join(&self.common.run).join(name)))
    }

    /// Hash of stage, version, result settings, the seed where the stage uses one, `--limit`, and the contents of the
    /// inputs; 32 hex digits.
    pub fn key(&self) -> String {
        self.key_of(&self.inputs)
    }

    fn key_of(&self, inputs: &[Source]) -> String {
        let mut settings = self.settings.clone();
        if let Some(map) = settings.as_object_mut() {
            map.retain(|name, _| !self.execution.contains(&name.as_str()));
        }
        digest(&json!({
            "format": FORMAT,
            "stage": self.spec.name,
            "version": self.spec.version,
            "settings": settings,
            "seed": self.spec.seeded.then_some(self.common.seed),
            "limit": self.common.limit,
            "inputs": inputs.iter().map(|input| (&input.stage, &input.files)).collect::<Vec<_>>(),
        }))
    }

    /// The stage, and all it stands on, was made from what is there now.
    fn check_fresh(&self, stage: &str, manifest: &Manifest) -> Result<(), Fail> {
        let rank = |name: &str| STAGES.iter().position(|&known| known == name);
        for source in manifest.inputs.iter().filter(|source| source.key.is_some()) {
            let upstream = source.stage.as_str();
            if rank(upstream).is_none() || rank(stage).is_none() {
                continue;
            }
            if rank(upstream) >= rank(stage) {
                let problem = anyhow!("manifest of {stage}: it cannot be made from {upstream}, which comes after it");
                return Err(Fail::bad_data(problem).hint(format!("just {stage} --force makes it again")));
            }
            let Some(now) = self.desk.store.linked(&self.common.run, upstream)? else {
                return Err(Fail::missing(anyhow!("{stage} was made from {upstream}, which is gone"))
                    .hint(format!("run just {upstream} first")));
            };
            let hashes = now.manifest.hashes();
            let differs = |(name, hash): &(&String, &String)| hashes.get(name.as_str()) != Some(&hash.as_str());
            if let Some((name, _)) = source.files.iter().find(differs) {
                return Err(Fail::missing(anyhow!("{stage} is stale: {upstream}/{name} changed since it ran"))
                    .hint(format!("run just {stage} first")));
            }
            self.check_fresh(upstream, &now.manifest)?;
        }
        Ok(())
    }

    /// What differs from the result that the run has now, one line each.
    fn changes(&self, before: &Manifest) -> Vec<String> {
        let mut why = Vec::new();
        let mut differs = |what: String, old: String, new: String| {
            if old != new {
                why.push(format!("{what} {old} -> {new}"));
            }
        };
        let show = |value: Option<&Value>| value.map_or("none".to_owned(), ToString::to_string);
        differs("version".into(), before.version.to_string(), self.spec.version.to_string());
        let seed = self.spec.seeded.then_some(self.common.seed);
        differs("seed".into(), format!("{:?}", before.seed), format!("{seed:?}"));
        differs("limit".into(), format!("{:?}", before.limit), format!("{:?}", self.common.limit));
        if let (Some(old), Some(new)) = (before.config.as_object(), self.settings.as_object()) {
            let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for name in names.into_iter().filter(|name| !self.execution.contains(&name.as_str())) {
                differs(format!("{}.{name}", self.spec.name), show(old.get(name)), show(new.get(name)));
            }
        }
        for input in &self.inputs {
            let earlier = before.inputs.iter().find(|source| source.stage == input.stage);
            if earlier.is_none_or(|source| source.files != input.files) {
                why.push(format!("{} changed", input.stage));
            }
        }
        why
    }
}
