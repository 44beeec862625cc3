//! What the program does, one function a command.

use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use candle_core::Device;
use model::{Model, Question};
use nets::Precision;
use stage::{Common, Fail, Outcome, Run, info, warn};

use crate::ask::{Pace, Tally, ask as ask_all};
use crate::assemble::model_of;
use crate::config::{Config, SPEC};
use crate::error::Error;
use crate::export;
use crate::output::{Format, Output};
use crate::overlays::Overlays;
use crate::selftest;
use crate::serve;
use crate::sources::{Sources, sources};

/// Images shown to the networks at a time.
pub(crate) const BATCH: usize = 20;

/// What is asked, and where the answers go.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Files, folders, tables, or `-`.
    pub files: Vec<PathBuf>,
    /// An exported model; a run's otherwise.
    pub model: Option<PathBuf>,
    /// How answers are written.
    pub format: Format,
    /// Where; stdout otherwise.
    pub out: Option<PathBuf>,
    /// Folder for pictures.
    pub overlay: Option<PathBuf>,
    /// Asks about refused images too.
    pub no_gate: bool,
    /// In what numbers the networks compute.
    pub precision: Precision,
    /// Bytes of memory for files, decoders and decoded images.
    pub memory: u64,
    /// The verdicts' error rate.
    pub error_rate: Option<f64>,
}

/// Asks the model about all images.
///
/// # Errors
/// No model, no images, a bad file (after all others were asked about), a full disk.
pub fn ask(common: &Common, asked: &Asked) -> Result<Outcome, Fail> {
    if !(common.print_config || common.dry_run || common.check) {
        can_be_answered(asked)?;
    }
    let Some((model, _)) = open(common, asked.model.as_deref(), asked.precision)? else { return Ok(Outcome::Nothing) };
    let Sources { files, unreadable } = sources(&asked.files, &mut BufReader::new(std::io::stdin()))?;
    let single = files.len() == 1 && !files[0].is_table();
    let verdicts = asked.error_rate.is_some();
    let mut output = Output::new(asked.format, asked.out.as_deref(), verdicts, single, &model)?;
    let mut overlays = asked.overlay.as_deref().map(Overlays::new).transpose()?;
    let question = Question { no_gate: asked.no_gate, error_rate: asked.error_rate };
    if asked.no_gate {
        warn!("--no-gate: refused images are asked about; what is said of them means nothing");
    }
    let mut tally = ask_all(&model, &files, question, Pace { batch: BATCH, memory: asked.memory }, &mut |answered| {
        output.add(&answered)?;
        match &mut overlays {
            Some(overlays) => overlays.draw(&answered, &model),
            None => Ok(()),
        }
    })?;
    output.finish()?;
    tally.bad += unreadable;
    ended(tally)
}

/// What cannot work is found out before a model is made, let alone asked.
fn can_be_answered(asked: &Asked) -> Result<(), Fail> {
    if asked.files.is_empty() {
        return Err(Error::NoImages { what: "none were named".to_owned() }.into());
    }
    match asked.out.as_deref() {
        None if asked.format == Format::Parquet => {
            Err(Fail::usage(anyhow!("a Parquet table cannot go to stdout")).hint("--out FILE names a file for it"))
        }
        Some(out) if out.is_dir() => {
            Err(Fail::usage(anyhow!("{}: is a folder", out.display())).hint("--out FILE names a file for the answers"))
        }
        _ => Ok(()),
    }
}

fn ended(Tally { images, refused, bad, foreign }: Tally) -> Result<Outcome, Fail> {
    info!("{images} images, {refused} refused; {bad} bad files, {foreign} files that are no images");
    match bad {
        0 => Ok(Outcome::Done),
        _ => Err(Fail::bad_data(anyhow!("{bad} files or folders could not be used; the log names each"))
            .hint("the other answers are complete")),
    }
}

/// The model of `folder`, or of the run; `None` where nothing is to be done. The run is there where there is no folder.
fn open(common: &Common, folder: Option<&Path>, precision: Precision) -> Result<Option<(Model, Option<Run>)>, Fail> {
    let device = nets::device(&common.device).map_err(Error::from)?;
    let opened = |folder: &Path| -> Result<Model, Fail> {
        let mut model = opened(folder, &device)?;
        model.network.evaluate_in(precision).map_err(Error::from)?;
        for backbone in model.network.branches().map(nets::Network::backbone) {
            if !precision.suits(backbone) {
                warn!("--precision {precision} does not apply to {backbone}, which computes in f32");
            }
        }
        Ok(model)
    };
    if let Some(folder) = folder {
        stage::start_log(common);
        return Ok(Some((opened(folder)?, None)));
    }
    let (mut run, config) = Run::open::<Config>(&SPEC, common)?;
    if run.printed_config()? {
        return Ok(None);
    }
    let Some(made) = model_of(&mut run, &config)? else { return Ok(None) };
    Ok(Some((opened(made.on_disk()?)?, Some(run))))
}

fn opened(folder: &Path, device: &Device) -> Result<Model, Fail> {
    Ok(Model::open(folder, device).map_err(Error::from)?)
}

/// How a model is exported.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Where to.
    pub folder: PathBuf,
    /// With ONNX files.
    pub onnx: bool,
    /// How many of the run's test images become references; `None` for [`export::REFERENCES`] of public data.
    pub references: Option<usize>,
    /// SPDX identifier of the weights' licence.
    pub license: String,
}

/// Writes a run's model as one folder.
///
/// # Errors
/// The folder exists; a stage or the report has not run; the disk is full.
pub fn export(common: &Common, model: Option<&Path>, exported: &Exported) -> Result<Outcome, Fail> {
    if let Some(model) = model {
        let message = anyhow!("--model {}: export makes a model of a run", model.display());
        return Err(Fail::usage(message).hint("--run NAME names the run; a model's folder can be copied as it is"));
    }
    let (mut run, config) = Run::open::<Config>(&SPEC, common)?;
    if run.printed_config()? {
        return Ok(Outcome::Nothing);
    }
    export::free(&exported.folder)?;
    let Some(made) = model_of(&mut run, &config)? else { return Ok(Outcome::Nothing) };
    export::export(&mut run, &made, exported)?;
    info!("wrote {}", exported.folder.display());
    Ok(Outcome::Done)
}

/// Recomputes the reference answers of a model.
///
/// # Errors
/// No model; answers that are farther from the references than rounding.
pub fn selftest(common: &Common, folder: Option<&Path>) -> Result<Outcome, Fail> {
    stage::start_log(common);
    let folder = folder.ok_or_else(|| {
        Fail::usage(anyhow!("selftest needs --model FOLDER")).hint("predict export --run RUN FOLDER makes one")
    })?;
    let device = nets::device(&common.device).map_err(Error::from)?;
    let found = selftest::selftest(folder, &opened(folder, &device)?)?;
    stage::print(&format!("{found}\n"))?;
    match found.is_close() {
        true => Ok(Outcome::Done),
        false => {
            Err(Fail::bad_data(anyhow!("{found}")).hint("the files are not those of the export, or a bug: report it"))
        }
    }
}

/// How a model is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// An exported model; a run's otherwise.
    pub model: Option<PathBuf>,
    /// Where; port 0 is any free one.
    pub address: SocketAddr,
    /// Whether other machines may ask.
    pub allow_remote: bool,
    /// In what numbers the networks compute.
    pub precision: Precision,
    /// What a client may ask for.
    pub limits: serve::Limits,
}

/// Answers a browser or a program on this machine until a signal.
///
/// # Errors
/// An address of other machines without leave, or one that is taken; no model; answers that a signal cut off.
pub fn serve(common: &Common, served: &Served) -> Result<Outcome, Fail> {
    stage::start_log(common);
    check_remote(served.address.ip(), served.allow_remote)?;
    let listener = serve::listen(served.address)?;
    let Some((model, _)) = open(common, served.model.as_deref(), served.precision)? else {
        return Ok(Outcome::Nothing);
    };
    serve::serve(listener, model, served.limits)?;
    info!("stopped; all that asked were answered");
    Ok(Outcome::Done)
}

fn check_remote(host: IpAddr, allowed: bool) -> Result<(), Fail> {
    match (host.is_loopback(), allowed) {
        (true, _) => Ok(()),
        (false, true) => {
            warn!("--allow-remote: whoever reaches {host} may ask; there is no password and no encryption");
            Ok(())
        }
        (false, false) => Err(Fail::usage(anyhow!("--host {host}: other machines could ask"))
            .hint("--allow-remote allows it; better is a tunnel, ssh -L, to 127.0.0.1")),
    }
}
