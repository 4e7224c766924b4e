"""The breakers at work: what trips them, what they stop, what goes on, and how an operator resumes."""

import asyncio
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.reaper.breakers import Trip
from services.reaper.worker import Worker
from shared.ledger import halts
from shared.ledger.contact_counts import ContactCounts, clear_contacts
from shared.ledger.halts import ALL, Cause
from shared.licensing.codes import Code
from shared.licensing.model import Activate, HoldOffline, Suspend
from shared.runtime.background import background
from shared.runtime.metrics import Metrics
from tests.builders import STAMP, ask, code_of, fetch, floating, make_terms, open_ledger, open_role, shift_clock
from tests.conftest import Database
from tests.platform import Platform, Services, Vendor, eventually, open_api
from tests.reaping import new_account, open_reaper, seat, silence, used

pytest_plugins = ["tests.platform"]

DAY = timedelta(days=1)
LONG_AGO = 2 * DAY
STEPPED = Trip(cause=Cause.CLOCK_STEPPED, detail="the database's clock stepped forward by 7200 s")


async def count_hours(database: Database, *, last: int | None, week_before: int) -> None:
    """Contacts of the last full hour and of the same hour a week before."""
    await fetch(database, "DELETE FROM contact_count")
    for hours, contacts in ((1, last), (169, week_before)):
        if contacts is not None:
            await fetch(
                database,
                "INSERT INTO contact_count (hour, contacts)"
                " VALUES (date_trunc('hour', ledger_clock(), 'UTC') - make_interval(hours => $1), $2)",
                hours,
                contacts,
            )


# --- The clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "way"), [(timedelta(hours=2), "forward"), (-timedelta(hours=2), "back")])
async def test_a_step_of_the_clock_halts_what_would_be_freed(database: Database, step: timedelta, way: str) -> None:
    ref = await seat(database, 3)
    async with open_reaper(database, clock_may_jump=False) as reaper:
        assert (await reaper.pass_()).halted is None
        await shift_clock(database, step)
        await silence(database, ref, count=2, ended=LONG_AGO)

        with capture_logs() as logs:
            done = await reaper.pass_()
            await reaper.pass_()

    assert done.halted is not None
    assert (done.halted.cause, done.freed, done.announced, done.left_alone) == (Cause.CLOCK_STEPPED, 0, 0, 2)
    assert done.halted.detail.startswith(f"the database's clock stepped {way} by ")
    assert await used(database, ref) == 3
    (line,) = [line for line in logs if line["event"] == "reaper.halted"]
    assert (line["log_level"], line["cause"], line["detail"]) == ("error", "clock_stepped", done.halted.detail)


async def test_a_step_of_less_than_a_minute_halts_nothing(database: Database) -> None:
    ref = await seat(database, 1)
    async with open_reaper(database, clock_may_jump=False) as reaper:
        await reaper.pass_()
        await shift_clock(database, timedelta(seconds=50))
        await silence(database, ref, count=1, ended=LONG_AGO)

        done = await reaper.pass_()

    assert (done.halted, done.freed) == (None, 1)


async def test_a_step_in_the_middle_of_a_pass_stops_it_at_that_page(database: Database) -> None:
    ref = await seat(database, 30)
    await silence(database, ref, count=30, ended=LONG_AGO)
    stepped = False
    async with open_reaper(database, clock_may_jump=False, page=5) as reaper:

        async def step(_: object) -> None:
            nonlocal stepped
            if not stepped and await used(database, ref) < 30:
                stepped = True
                await shift_clock(database, timedelta(hours=3))

        look = reaper.guard.look

        async def looking() -> halts.Look:
            await step(None)
            return await look()

        reaper.guard.look = looking  # type: ignore[method-assign]
        done = await reaper.pass_()

    assert done.halted is not None
    assert done.halted.cause is Cause.CLOCK_STEPPED
    assert 0 < done.freed < 30
    assert await used(database, ref) == 30 - done.freed


async def test_a_halt_holds_back_the_rules_themselves(database: Database) -> None:
    ref = await seat(database, 1)
    await silence(database, ref, count=1, ended=LONG_AGO)
    async with open_ledger(database) as ledger, open_reaper(database) as reaper:
        await halts.halt(reaper.pool, ALL, STEPPED.cause, STEPPED.detail)
        assert code_of(await ledger.submit(ask(Activate, "another", ref=ref))) is Code.DEVICE_LIMIT_EXCEEDED

        await halts.resume(reaper.pool, ALL)
        assert code_of(await ledger.submit(ask(Activate, "another", ref=ref))) is None


async def test_leases_under_a_day_are_freed_whatever_is_halted(database: Database) -> None:
    account = await new_account(database)
    ref = await seat(database, 3, account=account, terms=floating(600))
    long = await seat(database, 2, account=account)
    for one in (ref, long):
        await silence(database, one, count=2, ended=LONG_AGO)
    async with open_reaper(database) as reaper:
        for scope in (ALL, account):
            await halts.halt(reaper.pool, scope, STEPPED.cause, STEPPED.detail)
        done = await reaper.pass_()

    assert (done.freed, done.left_alone, done.halted) == (2, 2, STEPPED)
    assert (await used(database, ref), await used(database, long)) == (1, 2)


async def test_after_a_resume_the_same_breaker_is_quiet_for_a_day_and_no_other(database: Database) -> None:
    ref = await seat(database, 1)
    async with open_reaper(database, clock_may_jump=False) as reaper:
        await reaper.guard.look()
        await shift_clock(database, timedelta(hours=2))
        assert (await reaper.guard.look()).all.cause is Cause.CLOCK_STEPPED
        assert await halts.resume(reaper.pool, ALL)
        assert not await halts.resume(reaper.pool, ALL)

        await shift_clock(database, timedelta(hours=4))
        await silence(database, ref, count=1, ended=LONG_AGO)
        assert (await reaper.pass_()).freed == 1

        await count_hours(database, last=0, week_before=1000)
        assert (await reaper.guard.look()).all.cause is Cause.CONTACTS_FELL
        await halts.resume(reaper.pool, ALL)
        await count_hours(database, last=0, week_before=0)

        await shift_clock(database, timedelta(hours=30))
        assert (await reaper.guard.look()).all.cause is Cause.CLOCK_STEPPED


async def test_a_simulated_clock_may_jump(database: Database) -> None:
    ref = await seat(database, 1)
    async with open_reaper(database, clock_may_jump=True) as reaper:
        await reaper.pass_()
        await shift_clock(database, 92 * DAY)
        assert (await reaper.pass_()).freed == 1
    assert await used(database, ref) == 0


# --- Contacts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "week_before", "halted"), [(None, 1000, True), (499, 1000, True), (500, 1000, False), (None, 999, False)]
)
async def test_contacts_under_half_of_the_same_hour_last_week_halt(
    database: Database, last: int | None, week_before: int, halted: bool
) -> None:
    ref = await seat(database, 1)
    await silence(database, ref, count=1, ended=LONG_AGO)
    await count_hours(database, last=last, week_before=week_before)
    async with open_reaper(database) as reaper:
        done = await reaper.pass_()

    assert (done.halted is not None, done.freed) == (halted, int(not halted))
    if done.halted is not None:
        assert done.halted.cause is Cause.CONTACTS_FELL
        assert done.halted.detail.startswith(f"{last or 0} contacts in the last full hour, {week_before} in ")


async def test_contacts_add_up_over_processes_and_old_hours_go(database: Database) -> None:
    heard = [0, 0]
    async with open_role(database.dsn_for("seatkeeper_heartbeat")) as pool:
        counts = [ContactCounts(pool, lambda n=n: heard[n]) for n in range(2)]  # type: ignore[misc]
        for one in counts:
            await one.add()
        assert await fetch(database, "SELECT * FROM contact_count") == []
        for step in ([3, 4], [3, 10]):
            heard[:] = step
            await asyncio.gather(*(one.add() for one in counts))
    rows = "SELECT hour = date_trunc('hour', now(), 'UTC'), contacts FROM contact_count"
    assert await fetch(database, rows) == [(True, 13)]

    await fetch(database, "INSERT INTO contact_count VALUES (now() - interval '36 days', 7)")
    async with open_role(database.dsn_for("seatkeeper_reaper")) as pool:
        await clear_contacts(pool)
    assert await fetch(database, rows) == [(True, 13)]


async def test_contacts_that_could_not_be_added_are_added_later(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    counts = ContactCounts(platform.resources.pool, lambda: 5)
    await platform.gates.postgres.shut()
    with pytest.raises(Exception):  # noqa: B017, PT011 - however the way breaks
        await counts.add()
    await platform.gates.postgres.open()

    await counts.add()

    assert await platform.rows("SELECT contacts FROM contact_count") == [{"contacts": 5}]


# --- One account ------------------------------------------------------------------------------------------------


async def test_too_many_of_one_account_halt_the_reaper_for_that_account_alone(database: Database) -> None:
    crowd, few = await new_account(database), await new_account(database)
    ref, other = await seat(database, 300, account=crowd), await seat(database, 10, account=few)
    await silence(database, ref, count=101, ended=LONG_AGO)
    await silence(database, other, count=10, ended=LONG_AGO)
    async with open_reaper(database, page=50) as reaper:
        with capture_logs() as logs:
            done = await reaper.pass_()
            again = await reaper.pass_()
        trip = Trip(cause=Cause.TOO_MANY, detail="a pass would free 101 of 300 active devices (34%)")

        assert (done.freed, done.left_alone, done.halted, done.halted_accounts) == (10, 101, None, {crowd: trip})
        assert (again.freed, again.left_alone, again.halted_accounts) == (0, 101, {crowd: trip})
        assert (await used(database, ref), await used(database, other)) == (300, 0)
        (line,) = [line for line in logs if line["event"] == "reaper.halted"]
        assert line["account"] == str(crowd)

        assert await halts.resume(reaper.pool, crowd)
        resumed = await reaper.pass_()
        assert (resumed.freed, resumed.left_alone, resumed.halted_accounts) == (101, 0, {})


@pytest.mark.parametrize("ended", [100, 60])
async def test_a_hundred_devices_or_a_fifth_are_not_too_many(database: Database, ended: int) -> None:
    account = await new_account(database)
    ref = await seat(database, 300 if ended == 60 else 100, account=account)
    await silence(database, ref, count=ended, ended=LONG_AGO)
    async with open_reaper(database) as reaper:
        done = await reaper.pass_()

    assert (done.freed, done.halted_accounts) == (ended, {})


# --- Held -------------------------------------------------------------------------------------------------------


async def test_before_its_date_no_long_lease_is_freed_and_announcing_begins_a_week_before(database: Database) -> None:
    ref = await seat(database, 2)
    short = await seat(database, 2, terms=floating(600))
    async with open_reaper(database) as reaper, open_ledger(database) as ledger:
        until = (await halts.look(reaper.pool)).now + 100 * DAY
        await halts.hold(reaper.pool, until)

        await shift_clock(database, 92.9 * DAY)
        held = await reaper.pass_()
        assert (held.announced, held.freed, held.left_alone, held.held_until) == (0, 2, 2, until)
        assert (await used(database, ref), await used(database, short)) == (2, 0)
        assert code_of(await ledger.submit(ask(Activate, "another", ref=ref))) is Code.DEVICE_LIMIT_EXCEEDED

        await shift_clock(database, 93.1 * DAY)
        assert (await reaper.pass_()).announced == 2

        await shift_clock(database, 100.1 * DAY)
        done = await reaper.pass_()
        assert (done.announced, done.freed, done.held_until) == (0, 2, None)


# --- Left alone in any case -------------------------------------------------------------------------------------


async def test_devices_with_offline_files_and_suspended_licenses_are_not_even_asked_for(database: Database) -> None:
    ref = await seat(database, 2, terms=make_terms(offline_max_days=365))
    suspended = await seat(database, 2)
    async with open_ledger(database) as ledger, open_reaper(database) as reaper:
        now = (await halts.look(reaper.pool)).now
        await ledger.submit(ask(HoldOffline, "device-0", ref=ref, until=now + 200 * DAY))
        await ledger.submit(ask(Suspend, ref=suspended))
        await silence(database, ref, count=2, ended=LONG_AGO)
        await silence(database, suspended, count=2, ended=LONG_AGO)

        assert [one.license_id for one in (await reaper.pass_.plan()).devices] == [ref[1]]
        done = await reaper.pass_()

    assert (done.freed, done.left_alone) == (1, 0)
    assert (await used(database, ref), await used(database, suspended)) == (1, 2)


# --- What is told -----------------------------------------------------------------------------------------------


async def test_a_plan_tells_what_the_breakers_would_say_and_writes_nothing(database: Database) -> None:
    account = await new_account(database)
    ref = await seat(database, 200, account=account)
    await silence(database, ref, count=150, ended=LONG_AGO)
    async with open_reaper(database) as reaper:
        plan = await reaper.pass_.plan()
        assert (len(plan.devices), plan.left_alone, plan.halted) == (0, 150, None)
        assert plan.halted_accounts[account].cause is Cause.TOO_MANY

        await count_hours(database, last=1, week_before=5000)
        plan = await reaper.pass_.plan()
        assert plan.halted is not None
        assert (plan.halted.cause, plan.left_alone) == (Cause.CONTACTS_FELL, 150)
        look = await halts.look(reaper.pool)
    assert (look.all.halted, look.halted_accounts) == (False, {})


async def test_halts_are_counted_by_cause_and_the_worker_goes_on(database: Database) -> None:
    account = await new_account(database)
    ref = await seat(database, 200, account=account)
    await silence(database, ref, count=150, ended=LONG_AGO)
    metrics = Metrics(CollectorRegistry())

    async with open_reaper(database) as reaper:
        worker = Worker(reaper.pass_, reaper.guard, reaper.pool, metrics, STAMP, interval_s=0.1)
        async with background(worker.run):
            await eventually(lambda: _says(metrics, 'reaper_halted{cause="too_many"} 1.0'))
            assert await _says(metrics, 'reaper_halted{cause="clock_stepped"} 0.0')
            assert await _says(metrics, "reaper_left_alone 150.0")

            await halts.resume(reaper.pool, account)
            await eventually(lambda: _says(metrics, 'reaper_halted{cause="too_many"} 0.0'))
            await eventually(lambda: _says(metrics, "reaper_freed_total 150.0"))
            assert str(account) not in metrics.render().decode()


async def _says(metrics: Metrics, line: str) -> bool:
    return f"seatkeeper_{line}" in metrics.render().decode()


# --- Several replicas -------------------------------------------------------------------------------------------


async def test_replicas_share_the_work(database: Database) -> None:
    """By passing over what another is at; nearly nothing is asked for twice."""
    account = await new_account(database)
    refs = [await seat(database, 40, account=account) for _ in range(50)]
    for ref in refs:
        await silence(database, ref, count=40, ended=LONG_AGO)
    async with (
        open_reaper(database, page=100, batch_limit=40) as one,
        open_reaper(database, page=100, batch_limit=40) as two,
    ):
        await halts.halt(one.pool, account, Cause.TOO_MANY, "")
        await halts.resume(one.pool, account)
        passes = await asyncio.gather(one.pass_(), two.pass_())

    assert sum(done.freed for done in passes) == 2000
    assert [await used(database, ref) for ref in refs] == [0] * 50
    assert min(done.freed for done in passes) > 0
    assert sum(done.looked_at for done in passes) < 1.6 * 4000  # each is announced, then freed


async def test_of_replicas_that_see_the_same_cause_one_halts(database: Database) -> None:
    async with open_reaper(database) as one, open_reaper(database) as two:
        wrote = await asyncio.gather(*(halts.halt(reaper.pool, ALL, Cause.CLOCK_STEPPED, "a") for reaper in (one, two)))
        assert sorted(wrote) == [False, True]
        assert not await halts.halt(two.pool, ALL, Cause.CONTACTS_FELL, "b")

        standing = (await halts.look(one.pool)).all
    assert (standing.cause, standing.detail) == (Cause.CLOCK_STEPPED, "a")


# --- Services as processes --------------------------------------------------------------------------------------


async def test_a_service_that_ends_has_counted_what_it_heard(
    services: Services, vendor: Vendor, database: Database
) -> None:
    grant = await vendor.license()
    activation, heartbeat = [await services.start(name).ready() for name in ("activation", "heartbeat")]
    async with open_api(activation.url) as api, open_api(heartbeat.url) as beats:
        token = (await api.activate(grant.key)).ok(201)["deviceToken"]
        for _ in range(5):
            (await beats.heartbeat(token)).ok()

    assert await heartbeat.stop() == 0

    ((contacts,),) = await fetch(database, "SELECT sum(contacts) FROM contact_count")
    assert contacts == 5


async def test_a_reaper_whose_clock_steps_says_so_and_stays_ready(
    services: Services, vendor: Vendor, database: Database
) -> None:
    grant = await vendor.license()
    await vendor.seat(grant, "silent")
    reaper = await services.start("reaper", changes={"reaper": {"interval_s": 0.2}}).ready()
    async with open_api(reaper.health_url) as health:

        async def shows(line: str) -> bool:
            return line in (await health.ask("GET", "/metrics")).body.decode()

        async def passed() -> bool:
            return not await shows("seatkeeper_reaper_last_pass_seconds 0.0\n")

        await eventually(passed)
        await shift_clock(database, 92 * DAY)
        await eventually(lambda: shows('seatkeeper_reaper_halted{cause="clock_stepped"} 1.0'))
    await reaper.ready()
    assert await used(database, grant.ref) == 1
    assert await reaper.stop() == 0
    (line,) = [line for line in reaper.log() if line["event"] == "reaper.halted"]
    assert (line["level"], line["cause"]) == ("error", "clock_stepped")
