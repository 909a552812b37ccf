"""``python -m bench.naive.host ADDRESS``"""

import argparse
import asyncio

from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost


async def main(address: str) -> None:
    host = GrpcWorkerAgentRuntimeHost(address)
    host.start()
    await host.stop_when_signal()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.naive.host")
    parser.add_argument("address")
    asyncio.run(main(parser.parse_args().address))
