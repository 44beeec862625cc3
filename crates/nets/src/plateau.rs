//! When a loss has stopped falling.

/// A loss is lower than the lowest so far only if it is lower by this share of it (PyTorch's `ReduceLROnPlateau`).
const THRESHOLD: f64 = 1e-4;

/// How often the learning rate has been reduced after epochs with these validation losses: each time that more than
/// `patience` epochs in a row have not brought a lower one, from where counting begins anew (PyTorch's
/// `ReduceLROnPlateau`, without its least rate).
pub(crate) fn reductions(losses: &[Option<f64>], patience: usize) -> i32 {
    let (mut best, mut bad, mut reductions) = (f64::INFINITY, 0, 0);
    for &loss in losses {
        match loss {
            Some(loss) if loss < best * (1.0 - THRESHOLD) => (best, bad) = (loss, 0),
            _ => bad += 1,
        }
        if bad > patience {
            (bad, reductions) = (0, reductions + 1);
        }
    }
    reductions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// s = ReduceLROnPlateau(SGD([nn.Parameter(torch.zeros(1))], 1), factor=0.1, patience=patience)
    /// for loss in losses: s.step(loss); print(round(-math.log10(s.get_last_lr()[0])))
    /// ```
    #[test]
    fn reductions_are_pytorchs() {
        let losses = [0.5, 0.4, 0.41, 0.39999, 0.4, 0.3, 0.3, 0.3, 0.29999, 0.31, 0.29, 0.3, 0.3, 0.3, 0.3, 0.3];
        let defined: Vec<Option<f64>> = losses.into_iter().map(Some).collect();
        for (patience, expected) in [
            (0, [0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 12]),
            (1, [0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5]),
            (2, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]),
        ] {
            let got: Vec<i32> = (1..=losses.len()).map(|epochs| reductions(&defined[..epochs], patience)).collect();
            assert_eq!(got, expected, "patience {patience}");
        }
    }
}
