//! What users do with the `fullbore` command, told on the real binary: one file per behaviour.
//!
//! `FULLBORE_BIN` names another binary than the one built beside these tests, and `FULLBORE_TEST_DEVICE=cuda` runs
//! the same stories on a GPU.

mod scaffold;

mod augmentation;
mod bad_pictures_are_named;
mod bad_settings_are_refused;
mod begins_with_given_weights;
mod bench_data_shows_where_time_goes;
mod bench_step_takes_turns;
mod canvases_score_on_the_native_grid;
mod checkpoints_are_checked;
mod checkpoints_as_asked;
mod disk_full_keeps_the_last_checkpoint;
mod divergence_stops_the_run;
mod doctor_shows_the_machine;
mod eval_agrees_with_training;
mod fine_tunes_in_a_new_run;
mod goes_back_when_it_diverges;
mod init_writes_settings_that_train;
mod interrupt_and_resume;
mod killed_at_any_moment;
mod landmarks_train;
mod memory_runs_short;
mod mixed_formats_train_together;
mod optimizers_and_schedules_train;
mod plan_covers_defaults;
mod predicts_landmarks;
mod predicts_whole_folders;
mod run_folders_are_never_overwritten;
mod stops_early;
mod synth_makes_sets_that_train;
mod the_golden_losses;
mod the_guides_command_lines;
mod the_same_losses_twice;
mod trains_progressively;
mod trains_to_the_end;
mod validates_on_a_part;
