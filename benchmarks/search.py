"""Search in a sparse memory: a step's seconds, and how much of what is most similar is found.

`python -m benchmarks.search`: a loop writes 5 rows of width 32 a step and asks for the 4 rows most similar
to each of 2 keys; E rows are there at its end, half of them or more before. The keys are noisy copies of
rows that are there (cosine 0.9), or have nothing to do with them. `exact` and `hashed` are
`santm_tf.sparse.search`, in `scan_rows` as in the memory, compiled by XLA. `hnswlib`, `faiss HNSW` and
`faiss flat` (`pip install hnswlib faiss-cpu`) are called by `tf.numpy_function` in a graph's loop, which
XLA cannot compile. `no search` and `no search, graph` are the two loops without.

Each case runs in fresh processes; `--only="exact;hashed"` and `--rows="1000;10000"` run some and keep the
others as they were. Seconds are a loop's processor time, on one thread, divided by its steps. Recall is the
share found of the most similar row, or four rows, of all that were there.
"""

import json
import os
import pickle
import statistics
import sys
import time

import numpy as np

from benchmarks import harness, table

WIDTH, KEYS, WRITES, COUNT = 32, 2, 5, 4
LINKS, BUILT_WITH, LOOKED_AT = 16, 100, 64  # of both HNSW: M, efConstruction, efSearch
ROWS = 1_000, 10_000, 100_000, 1_000_000
KINDS = "no search", "exact", "hashed", "no search, graph", "hnswlib", "faiss HNSW", "faiss flat"
KEY_KINDS = "near", "unrelated"
COLUMNS = {"ratio": "ratio to exact", "seconds": "near keys, seconds", "fastest": "fastest",
           "slowest": "slowest",
           **{f"{keys}_top{n}": f"{keys} keys, top {n}" for keys in KEY_KINDS for n in (1, COUNT)},
           "unrelated_seconds": "unrelated keys, seconds"}
MOST_SECONDS = 15  # of a process's timed loops


class Course:
    """Unit rows `[E, W]`, of which the loop writes the last, and its keys `[T, 2, W]`."""

    def __init__(self, rows, keys):
        rng = np.random.default_rng(0)
        self.steps = min(rows // 10, 1000)
        self.filled = rows - self.steps * WRITES
        self.rows = _unit(rng.normal(size=[rows, WIDTH]))
        self.new = self.rows[self.filled:].reshape(self.steps, WRITES, WIDTH)
        self.keys = _unit(rng.normal(size=[self.steps, KEYS, WIDTH]))
        self.there = self.filled + WRITES * np.arange(self.steps)  # before each step
        if keys == "near":
            of = self.rows[(rng.random([self.steps, KEYS]) * self.there[:, None]).astype(int)]
            across = _unit(self.keys - (self.keys * of).sum(-1, keepdims=True) * of)
            self.keys = 0.9 * of + np.float32(np.sqrt(1 - 0.9**2)) * across

    def recall(self, found):
        """Shares of the most similar rows among those found, `[T, 2, k]` numbers of rows."""
        top1, top4 = [], []
        for t in range(0, self.steps, max(self.steps // 200, 1)):
            scores = self.keys[t] @ self.rows[:self.there[t]].T
            for own, score in zip(found[t], scores, strict=True):
                best = np.argsort(-score[part := np.argpartition(-score, COUNT)[:COUNT]])
                top1.append(part[best[0]] in own)
                top4.append(np.isin(part, own).mean())
        return {"top1": float(np.mean(top1)), "top4": float(np.mean(top4))}


def _unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def compiled(kind, course):
    """What readies a loop over `search.Written`, `search.Hashed` or nothing, and what runs it."""
    import santm_tf  # noqa: F401, I001
    import tensorflow as tf

    from santm_tf.sparse.rows import Rows, scan_rows
    from santm_tf.sparse.search import Hashed, Written

    # The loop writes the first places and slots, the last slots are never written.
    rows, first = len(course.rows), course.steps * WRITES
    others = tf.range(rows, rows + COUNT)[None]
    filled = np.arange(first, rows, dtype=np.int32)
    empty = Rows.start(tf.zeros([1, WIDTH]), 1, rows + COUNT, rows + 1)
    memory = empty._replace(
        written=tf.tensor_scatter_nd_update(empty.written, filled[:, None], course.rows[:len(filled)]),
        holds=tf.tensor_scatter_nd_update(empty.holds, filled[:, None], 1 + filled))

    @tf.function(jit_compile=True)
    def noted(index, empty, memory, slots):
        return index.replaced(empty, slots[None]).noted(memory)

    index = ()
    if kind != "no search":
        index = {"exact": Written, "hashed": Hashed}[kind].start(memory, 1, WRITES)
        for start in range(0, len(filled), 500):
            index = noted(index, empty, memory, filled[start:start + 500])
        index = index.replaced(empty, tf.fill([1, WRITES], rows + COUNT))  # the last step wrote nothing

    def choose(x, state, memory, index):
        keys, _, writes = x
        found = tf.broadcast_to(others, [1, KEYS, COUNT])
        if index:
            index = index.noted(memory)
            found = index.nearest(keys, memory, COUNT, others)
            writes += tf.minimum(tf.reduce_min(found), 0)  # it is 0; what is written follows the search
            index = index.replaced(memory, writes)
        return [found], writes, (), index

    def step(x, state, read, held, reads, writes):
        # As in a memory what is written follows from what was read: else XLA would copy it all at each step.
        seen = 1e-30 * (tf.reduce_sum(read[0]) + tf.reduce_sum(held))
        return (tf.identity(reads[0]), seen), state, x[1] + seen

    @tf.function(jit_compile=True)
    def loop(memory, index, keys, new, writes):
        (found, _), _, _, memory, _ = scan_rows(choose, step, (keys, new, writes), (), memory, index)
        return found, memory.written[0]  # XLA leaves out what nobody asks for

    keys, new = (tf.constant(v)[:, None] for v in (course.keys, course.new))
    writes = tf.reshape(tf.range(first), [course.steps, 1, WRITES])

    def run():
        found = loop(memory, index, keys, new, writes)[0].numpy()[:, 0]
        return np.where(found < rows, (found + len(filled)) % rows, -1)

    return lambda: None, run


class Nothing:
    """Takes the calls of an index."""

    def __init__(self, rows):
        self.none = np.zeros([KEYS, COUNT], np.int64)

    def add(self, rows, begin):
        pass

    def copy(self):
        return self

    def nearest(self, keys):
        return self.none


class Hnswlib(Nothing):
    def __init__(self, rows, index=None):
        import hnswlib

        self.rows, self.index = rows, index or hnswlib.Index("ip", WIDTH)
        if not index:
            self.index.init_index(rows, LINKS, BUILT_WITH)
        self.index.set_ef(LOOKED_AT)
        self.index.set_num_threads(1)

    def add(self, rows, begin):
        self.index.add_items(rows, np.arange(begin, begin + len(rows)))

    def copy(self):
        return Hnswlib(self.rows, pickle.loads(pickle.dumps(self.index)))

    def nearest(self, keys):
        return self.index.knn_query(keys, COUNT)[0].astype(np.int64)


class Faiss(Nothing):
    def __init__(self, index):
        import faiss

        self.index, self.clone = index, faiss.clone_index

    @classmethod
    def flat(cls, rows):
        import faiss

        return cls(faiss.IndexFlatIP(WIDTH))

    @classmethod
    def hnsw(cls, rows):
        import faiss

        index = faiss.IndexHNSWFlat(WIDTH, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = BUILT_WITH, LOOKED_AT
        return cls(index)

    def add(self, rows, begin):
        self.index.add(rows)

    def copy(self):
        return Faiss(self.clone(self.index))

    def nearest(self, keys):
        return self.index.search(keys, COUNT)[1]


INDEXES = {"no search, graph": Nothing, "hnswlib": Hnswlib, "faiss HNSW": Faiss.hnsw,
           "faiss flat": Faiss.flat}


def called(kind, course, built):
    """As `compiled`, of an index outside of the graph; what `built` has is not built again."""
    import santm_tf  # noqa: F401, I001
    import tensorflow as tf

    if not built:
        built.append(INDEXES[kind](len(course.rows)))
        built[0].add(course.rows[:course.filled], 0)
    index = built[0]

    def call(t, keys):
        if t:
            index.add(course.new[t - 1], course.there[t - 1])
        return index.nearest(keys)

    @tf.function
    def loop(keys):
        found = tf.TensorArray(tf.int64, course.steps, element_shape=[KEYS, COUNT])
        for t in tf.range(course.steps):
            own = tf.ensure_shape(tf.numpy_function(call, [t, keys[t]], tf.int64), [KEYS, COUNT])
            found = found.write(t, own)
        return found.stack()

    def ready():
        nonlocal index
        index = built[0].copy()

    keys = tf.constant(course.keys)
    return ready, lambda: loop(keys).numpy()


def one(case, repeats):
    """Runs a case, `"KIND: E"`, here."""
    import santm_tf  # noqa: F401, I001
    import tensorflow as tf

    # Before faiss is loaded: what is said to it later holds in one thread, and TensorFlow calls from another.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    kind, rows = case.split(": ")
    built, result = [], {}
    for keys in KEY_KINDS:
        course = Course(int(rows), keys)
        ready, run = called(kind, course, built) if kind in INDEXES else compiled(kind, course)
        ready()
        found = run()
        if not kind.startswith("no"):
            result |= {f"{keys}_{top}": share for top, share in course.recall(found).items()}
        seconds = []
        while len(seconds) < repeats and sum(seconds) < MOST_SECONDS:
            ready()
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
        result["seconds" if keys == "near" else f"{keys}_seconds"] = statistics.median(seconds) / course.steps
    return result


def label(kind, rows):
    return f"E={rows}, {kind}"


def write(rows):
    shown = {}
    for count in ROWS:
        exact = rows.get(label("exact", count))
        for kind in KINDS:
            if row := rows.get(label(kind, count)):
                shown[label(kind, count)] = {
                    **row, **({"ratio": row["seconds"] / exact["seconds"]} if exact else {})}
    title = (f"A step that writes {WRITES} rows of width {WIDTH} and asks for the {COUNT} nearest to {KEYS} "
             "keys: medians over fresh processes of processor time on one thread of the machine at hand, and "
             "recall.")
    table.write("search", title, "rows, index", shown, COLUMNS, table.rounded)


def main():
    options = harness.options("search", KINDS, ("rows", ROWS))
    if options.case:
        try:
            print(json.dumps(one(options.case, options.repeats)))
        except ImportError as error:
            print(json.dumps({"missing": str(error)}))
        return
    rows, runs = table.read("search"), {}
    for _ in range(options.rounds):  # rounds outside, so that a slow minute strikes every case
        for count in options.sizes:
            for kind in options.only:
                measured(rows, runs, kind, count, options.repeats)
        write(rows)


def measured(rows, runs, kind, count, repeats):
    """Puts one more run of a case among the runs, and their medians into the rows."""
    found = harness.fresh("search", f"{kind}: {count}", repeats)
    if "missing" in found:
        print(f"{label(kind, count)}: left out, {found['missing']}", file=sys.stderr)
        return
    own = runs.setdefault(label(kind, count), [])
    own.append(found)
    seconds = [run["seconds"] for run in own]
    rows[label(kind, count)] = {key: statistics.median(run[key] for run in own) for key in found} | {
        "fastest": min(seconds), "slowest": max(seconds)}


if __name__ == "__main__":
    main()
