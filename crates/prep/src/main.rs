//! Reads the NIH files and writes one Parquet row per image.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::process::ExitCode;

use prep::{Config, Dataset, Pieces, Place, SPEC, Written};
use serde_json::json;
use stage::{Begin, Computed, Fail, Outcome, Run, info, warn};

fn main() -> ExitCode {
    stage::main(&SPEC, story)
}

fn story(mut run: Run, config: Config) -> Result<Outcome, Fail> {
    let synthetic = config.root == Config::PHANTOM;
    let phantom = synthetic.then(|| run.input("phantom", &[""])).transpose()?;
    let root = match &phantom {
        Some(phantom) => phantom.on_disk()?.to_owned(),
        None => files::plain(&config.root),
    };
    let dataset = Dataset::read(&root, &config, &|name, compute| run.kept(name, compute))?;
    if run.dry_run() {
        stage::print(&dataset.summary.to_string())?;
    }
    let taken = match dataset.take(config.missing, run.limit()) {
        Err(error) if run.dry_run() => {
            warn!("{error}");
            Vec::new()
        }
        taken => taken?,
    };
    // The synthetic files are known by the hashes in their manifest.
    let quick = (!synthetic).then(|| dataset.quick_fingerprint(&taken));
    if let Some(quick) = &quick {
        run.stand_in(RAW, quick);
    }
    let shards = run.shards();
    let pieces = Pieces::new(&dataset, &taken, &config, SPEC.name, &shards);
    if let Some(quick) = &quick {
        let contents = run.remembered(quick, || -> Result<String, Fail> {
            pieces.check()?;
            let known = pieces.hashes()?;
            Ok(watched("raw files read", taken.len(), |watch| dataset.contents_fingerprint(&taken, &known, watch))?)
        })?;
        run.outside(RAW, contents, Some(&root));
    }
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    if let Some(phantom) = phantom {
        phantom.verify("")?;
    }
    if shards.mine().is_some() {
        watched("images", pieces.images(), |watch| pieces.prepare(watch))?;
        return work.share(|shard| pieces.is_missing(shard));
    }
    pieces.check()?;
    dataset.summary.sentences().iter().for_each(|line| info!("{line}"));
    dataset.summary.warning().iter().for_each(|line| warn!("{line}"));
    let (scratch, out) = (work.scratch().join("images"), work.out().join("images"));
    let place = Place { stage: SPEC.name, scratch: &scratch, out: &out, pieces: Some(&pieces) };
    let written = watched("images", taken.len(), |watch| prep::write(&dataset, &taken, &config, place, watch))?;
    for shard in &written.shards {
        work.rows(&format!("images/{}", shard.name), shard.rows);
    }
    if !config.expert_labels.is_empty() {
        let written: HashSet<&str> = taken.iter().map(|item| item.record.image_id.as_str()).collect();
        let rows = dataset.experts.iter().filter(|row| written.contains(row.image_id.as_str()));
        let rows: Vec<_> = rows.cloned().collect();
        tables::experts::write(&work.out().join("experts.parquet"), &rows, SPEC.name).map_err(prep::Error::from)?;
        work.rows("experts.parquet", rows.len() as u64);
    }
    report(&written);
    work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
    work.publish(metrics(&dataset, &written))
}

/// The label of the images' files in the key.
const RAW: &str = "raw data";

type Watch<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Does something to some images, with a progress bar, until Ctrl-C.
fn watched<T, E>(what: &str, images: usize, work: impl FnOnce(Watch) -> Result<T, E>) -> Result<T, E> {
    let mut progress = stage::progress(images as u64, what);
    let done = work(&mut |images| {
        progress.inc(images as u64);
        if stage::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.finish();
    Ok(done)
}

/// Says what was written, and what was left out.
fn report(written: &Written) {
    let found = &written.found;
    if written.taken_over > 0 {
        info!(
            "{} images were prepared before, by shards or before an interruption, and taken over",
            written.taken_over
        );
    }
    for problem in &found.first_corrupt {
        warn!("left out: {problem}");
    }
    if found.corrupt > 0 {
        warn!("{} damaged images were left out", found.corrupt);
    }
    if let Some((name, levels)) = &found.example {
        let (count, bits) = (found.shallow, found.most_bits);
        warn!(
            "{count} images are nearly black: their files have 16 bits, their values at most {bits}; {name} has {levels} \
             grey levels of 256. `--set prep.depth={bits}` stretches them"
        );
    }
    let [train, validation, test] = written.images;
    info!("wrote {train} train, {validation} validation and {test} test images");
}

/// The manifest's headline numbers.
fn metrics(dataset: &Dataset, written: &Written) -> serde_json::Value {
    let summary = &dataset.summary;
    let [train, validation, test] = written.images;
    json!({
        "headline": format!("{train} train, {validation} validation, {test} test images"),
        "labels": summary.label_table,
        "rows": summary.rows,
        "patients": summary.patients,
        "train_images": train,
        "validation_images": validation,
        "test_images": test,
        "missing_images": summary.images() - summary.present(),
        "corrupt_images": written.found.corrupt,
        "nearly_black_images": written.found.shallow,
        "impossible_ages": summary.impossible_ages,
        "boxes": summary.boxes,
        "boxed_images": summary.boxed_images,
        "shared_patients": summary.shared_patients,
        "known_as": summary.known_as,
    })
}
