"""Commands that run until a signal arrives: the signal ends them whichever thread the kernel gives it to."""

import signal
import subprocess
import sys
import textwrap

import pytest

from hindcast.stopping import wait_until

PROGRAM = textwrap.dedent("""
    import signal, sys, threading, time
    from hindcast.stopping import stop_at_signals, wait_until

    def work():
        time.sleep(0.5)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), int(sys.argv[1]))
        stop.wait()

    stop = stop_at_signals()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait_until(lambda: not thread.is_alive())
    print("stopped", stop.is_set())
""")


def test_waiting_ends_with_its_time_although_no_signal_came() -> None:
    wait_until(lambda: False, 0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_the_kernel_gives_to_another_thread_stops_the_command(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(int(number))], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout == "stopped True\n"
