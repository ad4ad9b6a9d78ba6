/// Decoding threads for `workers: auto`.
///
/// Half of the cores, at least 1 and at most 8: decoding beyond that only steals time from the rest of the run.
/// When the model itself computes on the CPU it wants those cores too, so decoding gets a quarter.
pub fn auto_workers(cores: usize, device_is_cpu: bool) -> usize {
    let share = if device_is_cpu { 4 } else { 2 };
    (cores / share).clamp(1, 8)
}

#[cfg(test)]
mod tests {
    use super::auto_workers;

    #[test]
    fn half_of_the_cores_between_one_and_eight() {
        assert_eq!(auto_workers(0, false), 1);
        assert_eq!(auto_workers(1, false), 1);
        assert_eq!(auto_workers(6, false), 3);
        assert_eq!(auto_workers(64, false), 8);
    }

    #[test]
    fn a_model_on_the_cpu_keeps_most_cores() {
        assert_eq!(auto_workers(2, true), 1);
        assert_eq!(auto_workers(16, true), 4);
    }
}
