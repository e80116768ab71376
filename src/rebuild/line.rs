//! Turns errors into lines for the operator.

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn text(error: impl ToString) -> String {
    error.to_string()
}
