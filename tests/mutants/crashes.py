"""Survives a crash: whatever is killed, whenever, nothing is lost."""

from mutants.mutant import ENGINE, Mutant

ATTEMPTS, DISPATCHER, INBOX, QUEUE = (
    f"{ENGINE}{name}.py" for name in ("attempts", "dispatcher", "inbox", "queue")
)

MUTANTS = [
    Mutant(
        "done before it is handled",
        "app/processing/attempt.py",
        "            await _handle(endpoints, claim, policy, transaction)\n",
        "            await inbox.complete(claim)\n"
        "            await _handle(endpoints, claim, policy, transaction)\n",
        ATTEMPTS,
    ),
    Mutant(
        "nobody looks for what is due again",
        "app/processing/dispatcher.py",
        "        async with asyncio.timeout(settings.poll_interval_seconds):\n",
        "        async with asyncio.timeout(None):\n",
        DISPATCHER,
    ),
    Mutant(
        "the first error ends the dispatcher",
        "app/processing/dispatcher.py",
        "        except Exception as error:\n",
        "        except ZeroDivisionError as error:\n",
        DISPATCHER,
    ),
    Mutant(
        "what has been due longest comes last",
        "app/inbox/statements.py",
        "            WHERE due_at <= {now} ORDER BY due_at LIMIT :limit {skip_locked}\n"
        "        )\n        {claim}",
        "            WHERE due_at <= {now} ORDER BY due_at DESC LIMIT :limit {skip_locked}\n"
        "        )\n        {claim}",
        INBOX,
    ),
    Mutant(
        "a handler that exits ends the process",
        "app/processing/attempt.py",
        "    except BaseException as error:",
        "    except ZeroDivisionError as error:",
        ATTEMPTS,
    ),
]
