//! The model is asked about all images, a batch at a time.

use std::path::Path;

use model::{Answer, Model, Question};
use picture::Radiograph;
use rayon::prelude::*;
use stage::{Progress, info, warn};

use crate::error::Error;
use crate::sources::{Source, shown};

/// How much is asked at once.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Images shown to the networks at a time.
    pub batch: usize,
    /// Bytes of memory for files, decoders and decoded images.
    pub memory: u64,
}

/// What came of the images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Asked about, or refused.
    pub images: usize,
    /// Refused by the gate.
    pub refused: usize,
    /// Bad files, named in the log.
    pub bad: usize,
    /// Files of a folder that are no images.
    pub foreign: usize,
}

/// An image whose answer is known.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Its path, or its name in a table.
    pub name: &'a str,
    /// What the model says.
    pub answer: &'a Answer,
}

/// A file's bytes, or why there are none.
struct Loaded {
    name: String,
    named: bool,
    bytes: Result<Vec<u8>, picture::Error>,
}

/// Asks `model` about the images of all `sources`; `each` hears the answers in their order. Bad files are named and
/// passed over.
///
/// # Errors
/// A table that cannot be read; what `each` returns; [`Error::Interrupted`].
pub fn ask(
    model: &Model,
    sources: &[Source],
    question: Question,
    pace: Pace,
    each: &mut dyn FnMut(Answered) -> Result<(), Error>,
) -> Result<Tally, Error> {
    let mut asking = Asking {
        model,
        question,
        pace,
        each,
        tally: Tally::default(),
        progress: stage::progress(sources.len() as u64, "images"),
        waiting: Vec::new(),
    };
    let (mut files, mut bytes): (Vec<&Source>, u64) = (Vec::new(), 0);
    for source in sources {
        if source.is_table() {
            asking.files(&std::mem::take(&mut files))?;
            asking.table(source)?;
            continue;
        }
        let size = fs_err::metadata(&source.path).map_or(0, |about| about.len().min(picture::MAX_BYTES));
        if files.len() == pace.batch || bytes + size > pace.memory / 4 {
            asking.files(&std::mem::take(&mut files))?;
            bytes = 0;
        }
        files.push(source);
        bytes += size;
    }
    asking.files(&files)?;
    asking.finish()?;
    asking.progress.finish();
    Ok(asking.tally)
}

struct Asking<'a> {
    model: &'a Model,
    question: Question,
    pace: Pace,
    each: &'a mut dyn FnMut(Answered) -> Result<(), Error>,
    tally: Tally,
    progress: Progress,
    /// Decoded, not yet asked about.
    waiting: Vec<(String, Radiograph)>,
}

impl Asking<'_> {
    fn files(&mut self, files: &[&Source]) -> Result<(), Error> {
        let load = |source: &&Source| Loaded {
            name: source.path.to_string_lossy().into_owned(),
            named: source.named,
            bytes: picture::read(&source.path),
        };
        if !files.is_empty() {
            self.decode(|| files.par_iter().map(load).collect())?;
        }
        self.progress.inc(files.len() as u64);
        Ok(())
    }

    /// A table that cannot be read is a bad file as any other; one that a folder has and that lacks images is foreign.
    fn table(&mut self, source: &Source) -> Result<(), Error> {
        match self.rows(&source.path) {
            Err(Error::Table(error @ (tables::Error::Column { .. } | tables::Error::Table { .. })))
                if !source.named =>
            {
                self.foreign(&error);
            }
            Err(Error::Table(error)) => self.bad(&error, error.hint()),
            other => other?,
        }
        self.progress.inc(1);
        Ok(())
    }

    fn foreign(&mut self, error: &dyn std::error::Error) {
        self.tally.foreign += 1;
        info!("passed over: {}", shown(Path::new(&chain(error))));
    }

    fn bad(&mut self, error: &dyn std::error::Error, hint: Option<String>) {
        self.tally.bad += 1;
        let hint = hint.map_or(String::new(), |hint| format!(" (hint: {hint})"));
        warn!("bad file: {}{hint}", shown(Path::new(&chain(error))));
    }

    fn rows(&mut self, path: &Path) -> Result<(), Error> {
        let (mut rows, mut size): (Vec<Loaded>, u64) = (Vec::new(), 0);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let pace = self.pace;
        tables::pictures::read(path, &mut |row: tables::pictures::Row| -> Result<(), Error> {
            let bytes = match row.bytes {
                Some(bytes) => Ok(bytes),
                None => picture::read(&folder.join(&row.name)),
            };
            size += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
            rows.push(Loaded { name: row.name, named: true, bytes });
            if rows.len() < pace.batch && size < pace.memory / 4 {
                return Ok(());
            }
            size = 0;
            let rows = std::mem::take(&mut rows);
            self.decode(|| rows)
        })?;
        self.decode(|| rows)
    }

    /// Decodes images while the model is asked about those before them: a network leaves cores idle between its layers.
    fn decode(&mut self, load: impl FnOnce() -> Vec<Loaded> + Send) -> Result<(), Error> {
        let held: usize = self.waiting.iter().map(|(_, radiograph)| radiograph.image.pixels.len()).sum();
        let enough = self.waiting.len() >= self.pace.batch || held as u64 > self.pace.memory / 4;
        let ready = if enough { self.next() } else { Vec::new() };
        let (model, question, memory) = (self.model, self.question, self.pace.memory);
        let (answers, decoded) = rayon::join(|| answers(model, &ready, question), || decoded(load(), memory / 2));
        self.say(&ready, &answers?)?;
        for (name, named, decoded) in decoded {
            match decoded {
                Ok(radiograph) => self.waiting.push((name, radiograph)),
                Err(error) if !named && error.is_foreign() => self.foreign(&error),
                Err(error) => self.bad(&error, error.hint()),
            }
        }
        Ok(())
    }

    /// Asks about all that wait.
    fn finish(&mut self) -> Result<(), Error> {
        while !self.waiting.is_empty() {
            let ready = self.next();
            let answers = answers(self.model, &ready, self.question)?;
            self.say(&ready, &answers)?;
        }
        Ok(())
    }

    /// The first of the images that wait, at most a batch.
    fn next(&mut self) -> Vec<(String, Radiograph)> {
        let count = self.waiting.len().min(self.pace.batch);
        self.waiting.drain(..count).collect()
    }

    fn say(&mut self, images: &[(String, Radiograph)], answers: &[Answer]) -> Result<(), Error> {
        for ((name, _), answer) in images.iter().zip(answers) {
            self.tally.images += 1;
            self.tally.refused += usize::from(answer.refusal.is_some());
            (self.each)(Answered { name, answer })?;
        }
        if stage::interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Decodes images in their order, as many at a time as `memory` has room for; one that needs more is refused.
fn decoded(loaded: Vec<Loaded>, memory: u64) -> Vec<(String, bool, Result<Radiograph, picture::Error>)> {
    // Headers that cannot be read need nothing; decoding says what is wrong with them.
    let needed = |loaded: &Loaded| {
        let bytes = loaded.bytes.as_deref().unwrap_or_default();
        picture::needs(&loaded.name, bytes).unwrap_or(0)
    };
    let decode = |(Loaded { name, named, bytes }, needed): (Loaded, u64)| {
        let decoded = bytes.and_then(|bytes| match needed > memory {
            true => Err(picture::Error::TooMuchMemory { name: name.clone(), needed, most: memory }),
            false => Radiograph::decode(&name, &bytes),
        });
        (name, named, decoded)
    };
    let (mut decoded, mut part, mut sum) = (Vec::new(), Vec::new(), 0);
    for loaded in loaded {
        let needed = needed(&loaded);
        if sum + needed.min(memory) > memory {
            decoded.par_extend(std::mem::take(&mut part).into_par_iter().map(decode));
            sum = 0;
        }
        sum += needed.min(memory);
        part.push((loaded, needed));
    }
    decoded.par_extend(part.into_par_iter().map(decode));
    decoded
}

fn answers(model: &Model, images: &[(String, Radiograph)], question: Question) -> Result<Vec<Answer>, model::Error> {
    let radiographs: Vec<&Radiograph> = images.iter().map(|(_, radiograph)| radiograph).collect();
    model.answer(&radiographs, question)
}

/// An error with its causes, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text += &format!(": {said}");
        }
        next = cause.source();
    }
    text
}
