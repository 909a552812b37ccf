"""Whether a port can be had."""

import socket

from fleet.process import ports


def test_a_taken_port_is_an_obstacle_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert ports.obstacle("127.0.0.1", port) == f"port {port} is taken"
    assert ports.obstacle("127.0.0.1", port) == ""


def test_an_address_of_another_machine_is_an_obstacle() -> None:
    assert ports.obstacle("192.0.2.1", 8501)


def test_a_name_that_does_not_exist_is_an_obstacle() -> None:
    assert ports.obstacle("no-such-host.invalid", 8501)


def test_a_number_beyond_the_last_port_is_an_obstacle() -> None:
    assert ports.obstacle("127.0.0.1", 65536) == "there is no port 65536"
