//! Whether a training went wrong, by its learning curve.

/// How many times the loss of the start is a loss that only divergence explains: overfitting multiplies it by a few.
const TIMES: f64 = 10.0;

/// Index and value of the first validation loss that is more than ten times that of the first epoch, or of a network that
/// says 0.5 of everything (ln 2), whichever is less; also of one that is no number.
pub fn divergence(validation_losses: impl IntoIterator<Item = Option<f64>>) -> Option<(usize, f64)> {
    let mut bound = None;
    validation_losses.into_iter().enumerate().find_map(|(epoch, loss)| {
        let loss = loss?;
        let most = *bound.get_or_insert(TIMES * loss.min(std::f64::consts::LN_2));
        (!loss.is_finite() || loss > most).then_some((epoch, loss))
    })
}

#[cfg(test)]
mod tests {
    use super::divergence;

    #[test]
    fn a_loss_that_explodes_is_no_overfitting() {
        let of = |losses: &[f64]| divergence(losses.iter().copied().map(Some));
        assert_eq!(of(&[0.2, 0.15, 0.3, 1.9]), None);
        assert_eq!(of(&[0.2, 0.15, 2.1, 141_494.0]), Some((2, 2.1)));
        assert_eq!(of(&[1e8, 0.2]), Some((0, 1e8)));
        assert_eq!(of(&[0.3, f64::INFINITY]), Some((1, f64::INFINITY)));
        assert_eq!(divergence([None, Some(0.1), None, Some(7.0)]), Some((3, 7.0)));
        assert_eq!((of(&[]), divergence([None])), (None, None));
    }
}
