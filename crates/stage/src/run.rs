//! An opened run: configuration, inputs, and the question whether anything is to be done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::config::Layers;
use crate::manifest::{File, Manifest, Source, hash, stat};
use crate::{Common, Fail, Outcome, STAGES, Scalars, Spec, Work, log};

/// What [`Run::plan`] decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Compute.
    Go,
    /// Stop here, with this outcome.
    Stop(Outcome),
}

/// One stage's view of one run.
#[derive(Debug)]
pub struct Run {
    pub(crate) spec: Spec,
    pub(crate) common: Common,
    layers: Layers,
    inputs: Vec<Source>,
    pub(crate) started: std::time::SystemTime,
}

/// The verified files of another stage, or of an earlier result.
#[derive(Debug, Clone)]
pub struct Input {
    folder: PathBuf,
    names: Vec<String>,
    manifest: Manifest,
    run: String,
}

impl Run {
    /// Reads the configuration layers and starts the log; writes nothing.
    ///
    /// # Errors
    /// Exit code 2 for a bad run name or configuration.
    pub fn open(spec: &Spec, common: &Common) -> Result<Self, Fail> {
        log::start(common.verbose, common.quiet);
        for name in [Some(&common.run), common.base.as_ref()].into_iter().flatten() {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
                return Err(Fail::usage(anyhow!(
                    "run name {name:?}: expected letters, digits, '.', '_' or '-', and no '.' in front"
                )));
            }
        }
        let layers = Layers::read(spec, common)?;
        let started = std::time::SystemTime::now();
        Ok(Run { spec: *spec, common: common.clone(), layers, inputs: Vec::new(), started })
    }

    /// The stage's own section, typed; ranges are for the stage to check.
    ///
    /// # Errors
    /// Exit code 2 for a value of another type, naming key and value.
    pub fn config<C: serde::de::DeserializeOwned>(&self) -> Result<C, Fail> {
        self.layers.parse()
    }

    /// What the user set for `stage.key` of any section; `None` where nothing was said.
    pub fn setting(&self, dotted: &str) -> Option<&toml::Value> {
        self.layers.setting(dotted)
    }

    /// The seed.
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

    /// The files of `stage` whose names begin with one of `prefixes`, checked against its manifest.
    /// They become part of this stage's key.
    ///
    /// # Errors
    /// Exit code 3 where the stage never published, was edited since, or is itself out of date.
    pub fn input(&mut self, stage: &str, prefixes: &[&str]) -> Result<Input, Fail> {
        let (run, manifest) = self.find(stage)?.ok_or_else(|| {
            let runs = match &self.common.base {
                Some(base) => format!("runs {} and {base}", self.common.run),
                None => format!("run {}", self.common.run),
            };
            Fail::missing(anyhow!("{} needs {stage}, which has not run in {runs}", self.spec.name))
                .hint(format!("run just {stage} first"))
        })?;
        self.check_fresh(stage, &manifest)?;
        let folder = self.folder(&run, stage);
        let wanted = |file: &&File| prefixes.iter().any(|prefix| file.name.starts_with(prefix));
        let files: Vec<&File> = manifest.outputs.iter().filter(wanted).collect();
        if files.is_empty() {
            let expected = prefixes.join(", ");
            let message = anyhow!("{}: no file {expected} was published there", folder.display());
            return Err(Fail::missing(message).hint(format!("run just {stage} --force first")));
        }
        for file in &files {
            check_unchanged(&folder, file, stage)?;
        }
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let hashes = files.iter().map(|file| (file.name.clone(), file.blake3.clone())).collect();
        self.inputs.push(Source { stage: stage.to_owned(), run: Some(run.clone()), files: hashes });
        Ok(Input { folder, names, manifest, run })
    }

    /// As [`Run::input`], of this run only, and `None` where the stage never published there: for what a stage can do
    /// without.
    ///
    /// # Errors
    /// As [`Run::input`], where it did publish.
    pub fn own_input(&mut self, stage: &str, prefixes: &[&str]) -> Result<Option<Input>, Fail> {
        if Manifest::read(&self.folder(&self.common.run, stage))?.is_none() {
            return Ok(None);
        }
        self.input(stage, prefixes).map(Some)
    }

    /// Makes data from outside part of the key, by a fingerprint of its contents.
    pub fn outside(&mut self, label: &str, fingerprint: String) {
        let files = BTreeMap::from([(label.to_owned(), fingerprint)]);
        self.inputs.push(Source { stage: label.to_owned(), run: None, files });
    }

    /// What this stage itself published before, if it did: for work that can be used again.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn previous(&self) -> Result<Option<Input>, Fail> {
        let Some((run, manifest)) = self.find(self.spec.name)? else { return Ok(None) };
        let folder = self.folder(&run, self.spec.name);
        let names = manifest.outputs.iter().map(|file| file.name.clone()).collect();
        Ok(Some(Input { folder, names, manifest, run }))
    }

    /// Whether to compute. Says so, and why; heeds `--force`, `--dry-run` and `--print-config`.
    ///
    /// # Errors
    /// The manifest of the earlier result cannot be read.
    pub fn plan(&self) -> Result<Plan, Fail> {
        let name = self.spec.name;
        let folder = self.folder(&self.common.run, name);
        let mut why = match Manifest::read(&folder)? {
            None => vec!["not run yet".to_owned()],
            Some(before) => self.changes(&before, &folder),
        };
        if why.is_empty() && self.common.force {
            why.push("--force".to_owned());
        }
        if why.is_empty() {
            let reads: Vec<&str> = self.inputs.iter().filter(|i| i.run.is_some()).map(|i| i.stage.as_str()).collect();
            let unless = match self.common.dry_run && !reads.is_empty() {
                true => format!(", unless {} runs before it", reads.join(" or ")),
                false => String::new(),
            };
            tracing::info!("{name}: current{unless}");
            return Ok(Plan::Stop(Outcome::Current));
        }
        if self.common.dry_run {
            tracing::info!("{name}: would run: {}", why.join("; "));
            return Ok(Plan::Stop(Outcome::Nothing));
        }
        tracing::info!("{name}: runs: {}", why.join("; "));
        Ok(Plan::Go)
    }

    /// Prints the effective configuration where `--print-config` asks for it; the stage then stops.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn printed_config(&self) -> anyhow::Result<bool> {
        if self.common.print_config {
            let mut table = toml::Table::new();
            table.insert(self.spec.name.to_owned(), self.layers.effective().clone().into());
            log::print(&toml::to_string(&table)?)?;
        }
        Ok(self.common.print_config)
    }

    /// Whether `--dry-run` was given, for stages that have something to tell before they plan.
    pub fn dry_run(&self) -> bool {
        self.common.dry_run
    }

    /// Where a training's numbers go: event files if `--tensorboard` was given, else nowhere.
    pub fn scalars(&self) -> Scalars {
        let name = format!("{}-{}", self.spec.name, &self.key()[..8]);
        Scalars::new(self.common.tensorboard.as_ref().map(|folder| folder.join(&self.common.run).join(name)))
    }

    /// Takes the lock and opens the private folder to compute in.
    ///
    /// # Errors
    /// Exit code 1 where another process runs the same stage of the same run, or a folder cannot be made.
    pub fn begin(&self) -> Result<Work<'_>, Fail> {
        Work::open(self)
    }

    /// Hash of stage, version, configuration, seed, limit and inputs, hex.
    pub fn key(&self) -> String {
        let content = serde_json::json!({
            "stage": self.spec.name,
            "version": self.spec.version,
            "config": self.config_json(),
            "seed": self.common.seed,
            "limit": self.common.limit,
            "inputs": self.inputs.iter().map(|input| (&input.stage, &input.files)).collect::<Vec<_>>(),
        });
        blake3::hash(content.to_string().as_bytes()).to_hex().to_string()
    }

    pub(crate) fn config_json(&self) -> serde_json::Value {
        serde_json::to_value(self.layers.effective()).unwrap_or_default()
    }

    pub(crate) fn inputs(&self) -> &[Source] {
        &self.inputs
    }

    /// `<artifacts>/<run>/<stage>`.
    pub(crate) fn folder(&self, run: &str, stage: &str) -> PathBuf {
        self.common.artifacts_dir.join(run).join(stage)
    }

    /// The stage's manifest in this run, or else in the base run.
    fn find(&self, stage: &str) -> Result<Option<(String, Manifest)>, Fail> {
        for run in [Some(&self.common.run), self.common.base.as_ref()].into_iter().flatten() {
            if let Some(manifest) = Manifest::read(&self.folder(run, stage))? {
                return Ok(Some((run.clone(), manifest)));
            }
        }
        Ok(None)
    }

    /// The stage, and all it stands on, was made from what is there now.
    fn check_fresh(&self, stage: &str, manifest: &Manifest) -> Result<(), Fail> {
        for source in manifest.inputs.iter().filter(|source| source.run.is_some()) {
            let upstream = &source.stage;
            if !STAGES.contains(&upstream.as_str()) {
                continue;
            }
            // In this run, in the base run, or else in the run that it was made from.
            let found = match (self.find(upstream)?, &source.run) {
                (None, Some(run)) => Manifest::read(&self.folder(run, upstream))?,
                (found, _) => found.map(|(_, manifest)| manifest),
            };
            let Some(now) = found else {
                return Err(Fail::missing(anyhow!("{stage} was made from {upstream}, which is gone"))
                    .hint(format!("run just {upstream} first")));
            };
            let hashes = now.hashes();
            if let Some((name, _)) = source.files.iter().find(|(name, hash)| hashes.get(*name) != Some(hash)) {
                return Err(Fail::missing(anyhow!("{stage} is stale: {upstream}/{name} changed since it ran"))
                    .hint(format!("run just {stage} first")));
            }
            self.check_fresh(upstream, &now)?;
        }
        Ok(())
    }

    /// What differs from the earlier result, one line each; nothing where it is current.
    fn changes(&self, before: &Manifest, folder: &Path) -> Vec<String> {
        let mut why = Vec::new();
        let mut differs = |what: String, old: String, new: String| {
            if old != new {
                why.push(format!("{what} {old} -> {new}"));
            }
        };
        differs("version".into(), before.version.to_string(), self.spec.version.to_string());
        differs("seed".into(), before.seed.to_string(), self.common.seed.to_string());
        differs("limit".into(), format!("{:?}", before.limit), format!("{:?}", self.common.limit));
        let config = self.config_json();
        let (old, new) = (before.config.as_object(), config.as_object());
        if let (Some(old), Some(new)) = (old, new) {
            let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            let show = |value: Option<&serde_json::Value>| value.map_or("none".to_owned(), ToString::to_string);
            for name in names {
                differs(format!("{}.{name}", self.spec.name), show(old.get(name)), show(new.get(name)));
            }
        }
        for input in &self.inputs {
            let earlier = before.inputs.iter().find(|source| source.stage == input.stage);
            if earlier.is_none_or(|source| source.files != input.files) {
                why.push(format!("{} changed", input.stage));
            }
        }
        if why.is_empty() && before.key != self.key() {
            why.push("key changed".to_owned());
        }
        for file in &before.outputs {
            if !stat(&folder.join(&file.name)).is_ok_and(|(bytes, _)| bytes == file.bytes) {
                why.push(format!("output {} is missing or changed", file.name));
            }
        }
        why
    }
}

/// The file is what the stage published.
fn check_unchanged(folder: &Path, file: &File, stage: &str) -> Result<(), Fail> {
    let path = folder.join(&file.name);
    let redo = format!("run just {stage} --force to make it again");
    let (bytes, modified_ns) = stat(&path).map_err(|error| Fail::missing(error).hint(redo.clone()))?;
    if (bytes, modified_ns) == (file.bytes, file.modified_ns) {
        return Ok(());
    }
    let got = hash(&path).map_err(Fail::failed)?;
    if got == file.blake3 {
        return Ok(());
    }
    Err(Fail::missing(anyhow!(
        "{} was changed since {stage} published it: BLAKE3 {got}, expected {}",
        path.display(),
        file.blake3
    ))
    .hint(redo))
}

impl Input {
    /// The stage's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of the file with that name below the stage's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Paths of all files whose names begin with `prefix`, sorted.
    pub fn files(&self, prefix: &str) -> Vec<PathBuf> {
        let mut names: Vec<_> = self.names.iter().filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names.into_iter().map(|name| self.folder.join(name)).collect()
    }

    /// Everything recorded about the stage.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The stage's effective configuration.
    pub fn config(&self) -> &serde_json::Value {
        &self.manifest.config
    }

    /// The run that the files are in.
    pub fn run_name(&self) -> &str {
        &self.run
    }
}
