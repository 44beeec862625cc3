//! The page of a group: several seeds, or the arms of a study.

use std::collections::BTreeMap;

use cxr::metrics::{Metric, Pair, Scope, Series, Subset};
use cxr::{Branch, DatasetKind};
use minijinja::Environment;
use minijinja::value::Serde;
use tables::metrics::Row;

use super::content::percent;
use super::tables::{Cell, Column, Line, Table, class, columns};
use crate::Error;
use crate::figures::Figure;
use crate::group::{Arm, Group, sentences, spread, wins};
use crate::provenance::Provenance;
use crate::published::Dataset;
use crate::results::{Results, series_title, subset_title, title, value};

/// All that the page of a group shows.
pub struct GroupPage<'a> {
    /// `seeds` or `study`.
    pub kind: &'static str,
    /// Its key: run names are no part of the page.
    pub key: &'a str,
    /// The trainings.
    pub group: &'a Group,
    /// The numbers.
    pub results: &'a Results,
    /// What they were measured on.
    pub dataset: &'a Dataset,
    /// Of the first training, upstream first.
    pub provenance: &'a [Provenance],
    /// What every arm sets, `stage.key = value` lines.
    pub sets: &'a [String],
    /// Bootstrap draws.
    pub draws: usize,
    /// Share of draws inside an interval.
    pub confidence: f64,
    /// Figures by name.
    pub figures: &'a [Figure],
}

impl GroupPage<'_> {
    /// The HTML.
    ///
    /// # Errors
    /// A drawing or the template fails, a bug.
    pub fn html(&self) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.add_template("group.html", concat!(include_str!("macros.html"), include_str!("group.html")))?;
        let mut figures = BTreeMap::new();
        for figure in self.figures {
            figures.insert(figure.name, figure.drawing.inline_svg(figure.alt)?);
        }
        let &GroupPage { group, results, .. } = self;
        let seeds: Vec<String> = group.seeds.iter().map(u64::to_string).collect();
        let synthetic = self.dataset.kind == DatasetKind::Phantom;
        let mut tables = BTreeMap::from([
            ("arms", self.arms("Mean AUROC", Metric::Auroc)),
            ("precision", self.arms("Mean average precision", Metric::AveragePrecision)),
            ("findings", self.findings(&group.arms[0])),
        ]);
        if group.is_study() {
            tables.insert("contrasts", self.contrasts());
            tables.insert("about", self.about());
        }
        let page = serde_json::json!({
            "kind": self.kind,
            "key": &self.key[..8.min(self.key.len())],
            "study": group.is_study(),
            "dataset": if synthetic { "synthetic dataset" } else { "real images" },
            "synthetic": synthetic,
            "images": group.cohort().len(),
            "patients": group.cohort().patient_count(),
            "split": group.split,
            "seeds": seeds.join(", "),
            "few": group.few(),
            "not_comparable": self.dataset.not_comparable(),
            "prep_split": self.dataset.split,
            "provenance": self.provenance,
            "sentences": sentences(group, results),
            "draws": self.draws,
            "percent": percent(self.confidence),
            "tables": tables,
            "figures": figures,
            "style": include_str!("style.css"),
        });
        Ok(environment.get_template("group.html")?.render(Serde(page))?)
    }

    fn row(&self, series: impl Into<Series>, scope: Scope, metric: Metric, subset: &Subset) -> &Row {
        self.results.of_subset(series, scope, metric, subset, self.group.split)
    }

    /// The cells of one scope: the branches, the ensemble, two differences and the wins.
    fn cells(&self, scope: Scope, metric: Metric, subset: &Subset) -> Vec<Cell> {
        let row = |series: Series| self.row(series, scope, metric, subset);
        let mean = |series: Series| {
            let text = format!("{} {}", value(row(series)), spread(row(series)));
            Cell { text: text.trim_end().to_owned(), ..Cell::of(row(series)) }
        };
        let mut cells: Vec<Cell> = Branch::ALL.map(|branch| mean(branch.into())).into();
        cells.push(mean(Series::Ensemble));
        let gain = row(Pair::FusionGlobal.into());
        cells.extend([gain, row(Series::EnsembleGain)].map(Cell::signed));
        cells.push(Cell::plain(wins(gain)));
        cells
    }

    fn head(first: &str) -> Vec<Column> {
        let names = [Branch::Global.into(), Branch::Local.into(), Branch::Fusion.into(), Series::Ensemble];
        let names = names.into_iter().chain([Pair::FusionGlobal.into(), Series::EnsembleGain]).map(series_title);
        let names: Vec<String> =
            [first.to_owned()].into_iter().chain(names).chain(["fusion wins".to_owned()]).collect();
        columns(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn arms(&self, name: &'static str, metric: Metric) -> Table {
        let line = |arm: &Arm| Line {
            name: if self.group.is_study() { arm.name.clone() } else { title(Scope::Mean) },
            class: "",
            cells: self.cells(Scope::Mean, metric, &self.group.subset(arm)),
        };
        let first = if self.group.is_study() { "arm" } else { "over findings" };
        Table { title: name, head: Self::head(first), rows: self.group.arms.iter().map(line).collect() }
    }

    fn findings(&self, arm: &Arm) -> Table {
        let subset = self.group.subset(arm);
        let line = |scope: Scope| Line {
            name: title(scope),
            class: class(scope),
            cells: self.cells(scope, Metric::Auroc, &subset),
        };
        let scopes = Scope::outputs().into_iter().chain([Scope::Mean]);
        Table { title: "AUROC of every finding", head: Self::head("finding"), rows: scopes.map(line).collect() }
    }

    fn contrasts(&self) -> Table {
        let compared = self.group.compared(self.results);
        let line = |(_, subset): (&Arm, Subset)| {
            let rows = compared.iter().map(|&branch| self.row(branch, Scope::Mean, Metric::Auroc, &subset));
            let cells = rows.flat_map(|row| [Cell::signed(row), Cell::plain(wins(row))]);
            Line { name: subset_title(&subset), class: "", cells: cells.collect() }
        };
        let names = compared.iter().flat_map(|branch| [branch.name(), "above 0 in seeds"]);
        let head = columns(&["difference"].into_iter().chain(names).collect::<Vec<_>>());
        Table { title: "Differences between arms", head, rows: self.group.others().map(line).collect() }
    }

    fn about(&self) -> Table {
        let line = |(arm, set): (&Arm, &String)| Line {
            name: arm.name.clone(),
            class: "",
            cells: [&arm.about, set].map(|text| Cell::text(text, true)).into(),
        };
        let head = columns(&["arm", "what it is", "what it sets"]);
        Table { title: "What the arms are", head, rows: self.group.arms.iter().zip(self.sets).map(line).collect() }
    }
}
