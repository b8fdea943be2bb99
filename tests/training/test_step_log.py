from unlossy.training.step_log import StepLog


def test_a_rewound_log_equals_one_that_was_never_interrupted(tmp_path):
    whole, broken = StepLog(tmp_path / "whole"), StepLog(tmp_path / "broken")
    for log in (whole, broken):
        log.path.parent.mkdir()
    for step in range(4):
        whole.log_metrics({"b": step / 3, "a": 1.0, "epoch": 0}, step)
    for step in (0, 1, 2, 3):
        broken.log_metrics({"b": step / 3 + (step > 1), "a": 1.0}, step)
    with broken.path.open("a") as file:
        file.write("3,a")  # killed while writing
    broken.rewind(2)
    for step in (2, 3):
        broken.log_metrics({"b": step / 3, "a": 1.0}, step)
    assert broken.path.read_text() == whole.path.read_text()
