//! The model is asked about all images, a batch at a time.

use std::path::Path;

use model::{Answer, Model, Question};
use picture::Radiograph;
use rayon::prelude::*;
use stage::{Progress, info, warn};

use crate::error::Error;
use crate::sources::{Source, shown};

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
    batch: usize,
    each: &mut dyn FnMut(Answered) -> Result<(), Error>,
) -> Result<Tally, Error> {
    let mut asking = Asking {
        model,
        question,
        batch,
        each,
        tally: Tally::default(),
        progress: stage::progress(sources.len() as u64, "images"),
        waiting: Vec::new(),
    };
    let mut files: Vec<&Source> = Vec::new();
    for source in sources {
        if source.is_table() {
            asking.files(&std::mem::take(&mut files))?;
            asking.table(source)?;
            continue;
        }
        files.push(source);
        if files.len() == batch {
            asking.files(&std::mem::take(&mut files))?;
        }
    }
    asking.files(&files)?;
    asking.finish()?;
    asking.progress.finish();
    Ok(asking.tally)
}

struct Asking<'a> {
    model: &'a Model,
    question: Question,
    batch: usize,
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
        self.decode(files.par_iter().map(load))?;
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
        let mut rows: Vec<Loaded> = Vec::new();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let batch = self.batch;
        tables::pictures::read(path, &mut |row: tables::pictures::Row| -> Result<(), Error> {
            let bytes = match row.bytes {
                Some(bytes) => Ok(bytes),
                None => picture::read(&folder.join(&row.name)),
            };
            rows.push(Loaded { name: row.name, named: true, bytes });
            if rows.len() == batch { self.decode(std::mem::take(&mut rows).into_par_iter()) } else { Ok(()) }
        })?;
        self.decode(rows.into_par_iter())
    }

    /// Decodes images while the model is asked about those before them: a network leaves cores idle between its layers.
    fn decode(&mut self, loaded: impl IndexedParallelIterator<Item = Loaded>) -> Result<(), Error> {
        let decode = |Loaded { name, named, bytes }: Loaded| {
            let decoded = bytes.and_then(|bytes| Radiograph::decode(&name, &bytes));
            (name, named, decoded)
        };
        let ready = if self.waiting.len() < self.batch { Vec::new() } else { self.next() };
        let (model, question) = (self.model, self.question);
        let (answers, decoded) =
            rayon::join(|| answers(model, &ready, question), || loaded.map(decode).collect::<Vec<_>>());
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
        let count = self.waiting.len().min(self.batch);
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
