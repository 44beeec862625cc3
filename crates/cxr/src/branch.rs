//! The three branches of AG-CNN.

/// What makes a prediction (AG-CNN, figure 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Branch {
    /// The network that sees whole images.
    Global,
    /// The network that sees attended regions.
    Local,
    /// The linear layer on the features of both.
    Fusion,
}

impl Branch {
    /// All branches, in the order in which they are trained.
    pub const ALL: [Branch; 3] = [Branch::Global, Branch::Local, Branch::Fusion];

    /// `global`, `local` or `fusion`: the name of the stage that trains it.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
