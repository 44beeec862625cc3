//! What findings are called.

use std::collections::BTreeMap;

use cxr::Finding;

use crate::table::alike;

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// One of the 14.
    Finding(Finding),
    /// None of the 14.
    NoFinding,
    /// Not ours, and said to be so: left out.
    LeftOut,
}

/// What the names of findings mean: NIH's spelling however it is written, `Pleural Effusion`, and `prep.rename`.
#[derive(Debug)]
pub struct Names(BTreeMap<String, Name>);

impl Names {
    /// Those of NIH, and what `rename` says.
    pub fn new(rename: &BTreeMap<String, String>) -> Names {
        let mut names: BTreeMap<String, Name> =
            Finding::ALL.into_iter().map(|finding| (alike(finding.name()), Name::Finding(finding))).collect();
        names.insert(alike("Infiltrate"), Name::Finding(Finding::Infiltration));
        names.insert(alike("Pleural Effusion"), Name::Finding(Finding::Effusion));
        names.insert(alike("No Finding"), Name::NoFinding);
        for (theirs, ours) in rename {
            let meaning = names.get(&alike(ours)).copied().unwrap_or(Name::LeftOut);
            names.insert(alike(theirs), meaning);
        }
        Names(names)
    }

    /// What a name means; `None` where nobody knows.
    pub fn get(&self, name: &str) -> Option<Name> {
        self.0.get(&alike(name)).copied()
    }
}

/// Whether a setting of `prep.rename` names something that there is.
pub fn is_name(ours: &str) -> bool {
    let known = Finding::ALL.into_iter().map(Finding::name).chain(["No Finding", ""]);
    known.into_iter().any(|name| alike(name) == alike(ours))
}
