"""Closing this process's memory to other processes of the same user."""

_PR_SET_DUMPABLE = 4


def close_memory() -> bool:
    """Make the process undumpable: others of the same user can neither trace it nor read its `environ`, `mem` and `fd`.

    Processes that it forks are born so, programs that it starts are not. Root may still, with `CAP_SYS_PTRACE`. False
    where the system has no such thing (it is Linux' prctl).
    """
    try:
        import ctypes  # noqa: PLC0415 - nothing for those who only import this module

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return False
    return bool(prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
