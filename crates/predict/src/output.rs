//! Answers as text, lines of JSON, CSV or a table.

mod json;
mod rows;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use model::Model;

use crate::ask::Answered;
use crate::error::Error;

pub use json::value;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a line an image; of a single image, all probabilities
    Table,
    /// A row an image, with a header
    Csv,
    /// One object a line
    Json,
    /// A Parquet table, with the descriptions of its columns; needs --out
    Parquet,
}

/// Where answers go: to stdout as they come, or to a file that is there whole or not at all.
pub struct Output<'a> {
    format: Format,
    /// Whether rows have verdicts.
    verdicts: bool,
    model: &'a Model,
    file: Option<(PathBuf, fs_err::File)>,
    rows: Vec<tables::answers::Row>,
    text: text::Lines,
}

impl<'a> Output<'a> {
    /// Opens the output; without `path`, stdout, which takes no Parquet table. Rows have columns for `verdicts`, or not.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn new(
        format: Format,
        path: Option<&Path>,
        verdicts: bool,
        single: bool,
        model: &'a Model,
    ) -> Result<Output<'a>, Error> {
        let file = path.map(|path| Ok::<_, Error>((path.to_owned(), fs_err::File::create(partial(path))?)));
        let (file, text) = (file.transpose()?, text::Lines::new(single));
        let mut output = Output { format, verdicts, model, file, rows: Vec::new(), text };
        match format {
            Format::Csv => output.write(&rows::csv_header(verdicts)?)?,
            Format::Table => {
                let header = output.text.header();
                output.write(&header)?;
            }
            Format::Json | Format::Parquet => {}
        }
        Ok(output)
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// The disk is full; the reader of stdout went away.
    pub fn add(&mut self, answered: &Answered) -> Result<(), Error> {
        match self.format {
            Format::Json => self.write(&format!("{}\n", value(answered.name, answered.answer))),
            Format::Csv => self.write(&rows::csv(&rows::row(answered), self.verdicts)?),
            Format::Table => self.write(&self.text.of(answered, self.model)),
            Format::Parquet => {
                self.rows.push(rows::row(answered));
                Ok(())
            }
        }
    }

    /// Ends the output; a file takes its name.
    ///
    /// # Errors
    /// As [`Output::add`].
    pub fn finish(self) -> Result<(), Error> {
        let Some((path, file)) = self.file else { return Ok(()) };
        if self.format == Format::Parquet {
            drop(file);
            tables::answers::write(&partial(&path), &self.rows, self.verdicts, "predict")?;
        } else {
            file.sync_all()?;
        }
        Ok(fs_err::rename(partial(&path), path)?)
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        match &mut self.file {
            Some((_, file)) => Ok(file.write_all(text.as_bytes())?),
            None => Ok(stage::print(text)?),
        }
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}
