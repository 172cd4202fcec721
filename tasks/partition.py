"""Which sequences train, validate and test."""

import numpy as np

from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION, digest, ranked
from santm_tf.tasks.errors import TaskError


def stratified(strata, digests, validation, test, names=None):
    """Shares of every stratum, in the order of the contents' digests, so that equal sequences are together.

    Args:
      strata: of each sequence, ints `[n]`: its class, or 0. digests: of each, uint64 `[n]`.
      validation, test: shares. names: of the strata, for errors.

    Returns:
      `TRAIN`, `VALIDATION` or `TEST` of each, `[n]`. A share above 0 takes at least one of each stratum.

    Raises:
      TaskError: a stratum with too few sequences.

    >>> np.bincount(stratified(np.repeat([0, 1], 10), np.arange(20), 0.1, 0.2)).tolist()
    [14, 2, 4]
    """
    strata, digests = np.asarray(strata), np.asarray(digests, np.uint64)
    parts = np.full(len(strata), TRAIN)
    for stratum in np.unique(strata):
        mine = np.flatnonzero(strata == stratum)
        unique = np.unique(digests[mine])
        need = 1 + (validation > 0) + (test > 0)
        if len(unique) < need:
            what = f"class {names[stratum]} has" if names is not None else "there are"
            raise TaskError(f"--data_dir: {what} too few sequences that differ, {len(unique)}; it takes "
                            f"{need} to have one in each split; add some, or leave those out")
        for_test, for_validation = (max(1, round(share * len(unique))) if share else 0
                                    for share in (test, validation))
        for_validation = min(for_validation, len(unique) - for_test - 1) or int(validation > 0)
        for_test = min(for_test, len(unique) - for_validation - 1)
        parts[mine] = ranked(digests[mine], (TEST, for_test), (VALIDATION, for_validation))
    return parts


def grouped(groups, strata, validation, test):
    """The same with all sequences of a group together: a group is of the stratum that most of it has.

    Args:
      groups: of each sequence, texts `[n]`. strata: see `stratified`.

    >>> parts = grouped(np.array(list("aabbccdd")), np.zeros(8, int), 0.25, 0.25)
    >>> parts[::2].tolist() == parts[1::2].tolist(), sorted(parts[::2].tolist())
    (True, [0, 0, 1, 2])
    """
    names, place = np.unique(groups, return_inverse=True)
    need = 1 + (validation > 0) + (test > 0)
    if len(names) < need:
        raise TaskError(f"--group: there are {len(names)} groups; it takes {need} to have one in each split")
    usual = np.array([np.bincount(np.asarray(strata)[place == n]).argmax() for n in range(len(names))])
    rare = np.isin(usual, np.flatnonzero(np.bincount(usual) < need))
    usual = np.where(rare, -1, usual) if not (0 < rare.sum() < need) else np.zeros_like(usual)
    return stratified(usual, [digest(str(name).encode()) for name in names], validation, test)[place]


def by_digest(digests, validation, test):
    """Each by its own digest alone, without the others: shares are met about, and equal ones are together.

    >>> by_digest(np.array([0, 1 << 62, 1 << 63], np.uint64), validation=0.3, test=0.2).tolist()
    [2, 1, 0]
    """
    place = np.asarray(digests, np.uint64) / 2.0 ** 64
    return np.where(place < test, TEST, np.where(place < test + validation, VALIDATION, TRAIN))


def in_time(count, validation, test):
    """The first ones train, then some validate, and the last ones test, `[count]`.

    >>> in_time(10, 0.1, 0.2).tolist()
    [0, 0, 0, 0, 0, 0, 0, 1, 2, 2]
    """
    ends = count - round(count * (validation + test)), count - round(count * test)
    return np.repeat([TRAIN, VALIDATION, TEST], np.diff([0, *ends, count]))
