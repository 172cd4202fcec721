"""Where a run trains: in this process alone, or in several that share its batches."""

import contextlib
import os
import sys
import threading
from importlib.metadata import PackageNotFoundError, version

import tensorflow as tf

import santm_tf
from santm_tf.keras import TRAINS_TOGETHER, random_states
from santm_tf.replicas import Replicas
from santm_tf.tasks import PATHS
from santm_tf.tasks.share import WHOLE, Share
from santm_tf.training import cluster
from santm_tf.training.errors import Stopped, UsageError, note

APART = 1_000_003  # seeds between those of two processes
LAST = 10.0  # seconds that a process which fails has to end in; TensorFlow may wait for the others
# What a step raises once another process is gone.
GONE, COLLECTIVE = (tf.errors.UnavailableError, tf.errors.AbortedError), "Collective ops is aborted"


class Alone:
    """This process alone.

    Attributes:
      replicas: None. share: of each batch all rows. chief: whether this process writes.
    """

    replicas, share, chief = None, WHOLE, True

    def meet(self):
        """Waits until all processes are here."""

    def refuse_other(self, what, number):
        """Refuses to go on where processes have different numbers, whole ones."""

    def draw_apart(self, model):
        """Has the dropout of each process be its own, once all have the same weights and states."""


class Together:
    """One of several processes, a device each, that share every batch. See `Alone` for the attributes."""

    def __init__(self, strategy, index):
        self.replicas = Replicas(strategy, index)
        self.share, self.chief = Share(index, self.replicas.count), index == 0

    def meet(self):
        self.replicas.sum([tf.zeros([])])

    def refuse_other(self, what, number):
        count = self.replicas.count
        mine = tf.one_hot(self.replicas.index, count, dtype=tf.int64) * number
        found = self.replicas.sum([mine])[0].numpy().tolist()
        if len(set(found)) > 1:
            raise UsageError(f"{what} are {found} in the {count} workers; have all read the same folder")

    def draw_apart(self, model):
        for state in random_states(model):
            state.assign_add(tf.cast([self.replicas.index * APART, 0], state.dtype))


@contextlib.contextmanager
def started(config):
    """Within it this process is one of those that the configuration's strategy names: `Alone` or `Together`.

    TensorFlow must not have run anything yet. All processes leave it together.

    Raises:
      UsageError: there is no cluster, or its processes do not agree.
      Stopped: another process has ended.
    """
    place = _joined(config)
    try:
        yield place
        place.meet()
    except Exception as error:
        if place.replicas is not None:
            _ends_within(LAST, 2)
            if isinstance(error, GONE) or isinstance(error, tf.errors.OpError) and COLLECTIVE in str(error):
                raise Stopped("another worker has ended, see what it said; start all again with --resume",
                              1) from error
        raise


def _joined(config):
    session = config.session
    if session.strategy == "none" or session.dry_run:
        return Alone()
    if not TRAINS_TOGETHER:
        raise UsageError(f"--strategy={session.strategy}: needs Keras 3; unset TF_USE_LEGACY_KERAS")
    found = cluster.of_environment()
    if config.run.batch_size < len(found.addresses):
        raise UsageError(f"--batch_size={config.run.batch_size}: is the batch of all {len(found.addresses)} "
                         "workers together; give at least a row for each")
    cluster.join(found, session.join_seconds, _facts(config), session.workdir)
    return Together(_strategy(found, session.join_seconds), found.index)


def _facts(config):
    """What must be the same in all processes, `{name: text}`."""
    versions = {"santm_tf": santm_tf.__version__}
    for package in "tensorflow", "keras":
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # TensorFlow has several names
            continue
    session = config.session
    flags = {name: text for name, text in config.texts().items() if name not in PATHS}
    more = {"resume": f"--resume={session.resume}".lower(), "strategy": f"--strategy={session.strategy}"}
    return {**{name: f"{name} {found}" for name, found in versions.items()}, **flags, **more}


def _strategy(found, seconds):
    """A `MultiWorkerMirroredStrategy` of a device for each process."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices([gpus[found.before_here % len(gpus)]], "GPU")
        if found.here < len(gpus):
            note(f"{found.here} of {len(gpus)} GPUs of this machine are in use; start a worker for each")
    os.environ[cluster.VARIABLE] = found.variable
    # A process that went away since it joined would be waited for without an end.
    timer = _ends_within(seconds, 2, f"error: --join_seconds={seconds:g}: a worker went away as the run "
                                     "began; start all again")
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    timer.cancel()
    return strategy


def _ends_within(seconds, code, line=""):
    """Ends this process after so long, whatever it waits for; the timer can be cancelled."""
    def end():
        print(line, end="\n" * bool(line), file=sys.stderr, flush=True)
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer
