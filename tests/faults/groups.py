"""What happens to workers and brokers."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from kafka import TopicPartition

from pipeline.settings import HOPS
from pipeline.stream.topics import TALLIES
from tests.deployment.apache import Cluster
from tests.faults.edges import EDGES
from tests.faults.feeds import feed_by_emitter, feed_roughly
from tests.faults.stores import figures, project_once
from tests.faults.world import SESSION, World, run, world_of

Runner = Callable[[Cluster, Path, int, int], str]  # broker, directory, seed, times → what was seen


def killed(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """Of one, two or three workers any is killed, at any moment, its start included; now and then two at once."""
    with world_of(cluster, directory, 1 + seed % 3, seed, **ways(directory, seed)) as world:
        return kill_any(world, times)


def killed_apart(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """Each worker runs one hop, in the group of that hop; of each there are one or two, and any is killed as above."""
    with world_of(cluster, directory, 0, seed, **ways(directory, 3 * seed)) as world:
        for hop in HOPS:
            for _ in range(world.source.randint(1, 2)):
                world.workers.add("worker", "--roles", hop)
        ends = kill_any(world, times)
        return f"{', '.join(f'{hop}: {world.notes[hop]}' for hop in HOPS)}; {ends}"


def kill_any(world: World, times: int) -> str:
    """Notes how often each worker's last word on its command line, its hop where it runs one, was the victim's."""

    def inject(world: World) -> None:
        time.sleep(0.05 + world.source.expovariate(1.2))
        while not world.workers.kill(place := world.source.choice(world.workers.present())):
            time.sleep(0.01)  # it was killed before, and is not there again yet
        world.notes[world.workers.commands[place][-1]] += 1

    run(world, inject, times)
    assert world.workers.exits[-signal.SIGKILL] == times
    return world.workers.ends()


def ways(directory: Path, seed: int) -> dict[str, str]:
    """Every other seed with checkpoints, and every other of each with keys in the topic."""
    checkpoints = {
        "HEADCOUNT_CHECKPOINTS": str(directory / "checkpoints"),
        "HEADCOUNT_CHECKPOINT_SECONDS": "0.5",
    }
    return (checkpoints if seed // 3 % 2 else {}) | ({"HEADCOUNT_KEYS": "kafka:"} if seed // 6 % 2 else {})


def killed_at_edges(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """Each edge is reached so many times, and whoever reaches it dies there: workers, and a projector beside them."""
    quick = {"CHECKPOINTS": str(directory / "checkpoints"), "CHECKPOINT_SECONDS": "0.5", "SNAPSHOT_SECONDS": "0.2"}
    environment = {f"HEADCOUNT_{name}": value for name, value in quick.items()}
    published = directory / "published"
    with world_of(cluster, directory, 0, seed, HEADCOUNT_DATA=str(published), **environment) as world:
        workers = world.workers
        workers.wanted.update({edge.name: times for edge in EDGES})
        for command in (("worker",), ("worker",), ("project",))[seed % 2 :]:
            workers.add(*command)

        def inject(world: World) -> None:
            began = time.monotonic()
            world.until(lambda: workers.reached >= workers.wanted, f"edges were not reached: {workers.wanted}", 600)
            world.notes["seconds"] = round(time.monotonic() - began)

        run(world, inject, 1)
        assert workers.exits[-signal.SIGKILL] == 0, "a process was killed where it had not reached an edge"
        assert workers.reached >= workers.wanted
        assert workers.retire(len(workers.processes) - 1) == 0
        project_once(world)
        assert figures(published) == figures(directory / "statistics")
        return "; ".join(f"{name}: {n}" for name, n in workers.reached.items()) + f"; other {workers.ends()}"


def zombie(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """A worker is stopped until its partitions were given away, and goes on."""

    def inject(world: World) -> None:
        while not silent_then_fenced(world, world.source.choice(sorted(settled(world)))):
            pass  # it ended, fenced by the one before it

    with world_of(cluster, directory, 2, seed, **ways(directory, seed)) as world:
        run(world, inject, times)
        return f"{world.notes['said so']} of {times} said that they were fenced; {world.workers.ends()}"


def zombie_releaser(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """The worker that releases is stopped until another releases, and goes on."""

    def inject(world: World) -> None:
        [releaser] = [worker for worker, has in settled(world).items() if any(tp.topic == TALLIES for tp in has)]
        if not silent_then_fenced(world, releaser):  # it ended, fenced by the one before it
            inject(world)

    with world_of(cluster, directory, 2, seed, **ways(directory, seed)) as world:
        run(world, inject, times)
        return f"{world.notes['said so']} of {times} said that they were fenced; {world.workers.ends()}"


def settled(world: World) -> dict[int, set[TopicPartition]]:
    """What the two workers have, once they had it for some time; a worker that only begins cannot be fenced."""
    found: list[dict[int, set[TopicPartition]]] = [{}]

    def same_again() -> bool:
        found.append(world.members())
        return len(found[-1]) == 2 and found[-1] == found[-2]

    world.until(same_again, "two workers did not share the work")
    world.pause(0.5, 1.5)
    return found[-1] if world.members() == found[-1] else settled(world)


def silent_then_fenced(world: World, place: int) -> bool:
    """SIGSTOP past the session time-out, rebalance, SIGCONT; the worker has to say so. False where it ends before."""
    before = len(world.workers.text(place))
    process = world.workers.processes[place]
    if not process.freeze():
        return False
    try:
        time.sleep(SESSION)
        world.until(lambda: world.members().keys() == {1 - place}, "the silent worker was not put out of the group")
        world.pause(0.2, 2.0)
    finally:
        process.send(signal.SIGCONT)
    said = "a worker that was fenced said nothing"
    world.until(lambda: "fenced" in world.workers.text(place)[before:].lower(), said, 30)
    world.notes["said so"] += 1
    return True


def stop_broker(world: World) -> None:
    world.cluster.stop()


def kill_broker(world: World) -> None:
    world.cluster.kill()


def kill_all(world: World) -> None:
    """As where a machine with everything on it loses its power, but for what its disks had not written."""
    world.cluster.kill()
    for place in world.workers.present():
        world.workers.kill(place)


def broker_away(stop: Callable[[World], None], seconds: float) -> Runner:
    """The only broker is gone for a while; an application emits all the time, with room for what waits or without."""

    def away(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
        def inject(world: World) -> None:
            world.pause(1.0, 3.0)
            stop(world)
            time.sleep(seconds)
            cluster.start()
            world.until(world.all_there, "the workers did not come back")
            world.pause(0.5, 2.0)

        roomy = seed % 3 != 1
        with world_of(cluster, directory, 2, seed) as world:
            run(world, inject, times, feed=feed_by_emitter(10**6 if roomy else 2_000), pace=0.5)
            dropped = world.notes["emitter dropped"]
            assert not (roomy and dropped)
            return f"emitter dropped {dropped} of a buffer of {'1,000,000' if roomy else '2,000'}"

    return away


def come_and_go(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """Every few seconds a worker joins or leaves, in good order; there are one to four."""
    left = []

    def inject(world: World) -> None:
        for _ in range(6):
            world.pause(0.5, 3.0)
            here = world.workers.present()
            if len(here) > 1 and (len(here) == 4 or world.source.random() < 0.5):
                left.append(world.workers.retire(world.source.choice(here)))
            else:
                world.workers.add()

    for number in range(times):
        place = directory / str(number)
        with world_of(cluster, place, 1, seed + number, **ways(place, seed + number)) as world:
            run(world, inject, 1)
            assert not world.workers.exits, world.workers.ends()
    assert set(left) <= {0, -signal.SIGTERM}, f"workers that were asked to leave ended with {left}"  # it only began
    return f"{len(left)} left in good order"


def rough(cluster: Cluster, directory: Path, seed: int, times: int) -> str:
    """Nothing happens but what applications send."""
    for number in range(times):
        with world_of(cluster, directory / str(number), 2, seed + number) as world:
            run(world, lambda world: world.pause(6.0, 6.0), 1, feed=feed_roughly, pace=0.2)
    return ""
