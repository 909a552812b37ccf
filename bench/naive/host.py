"""``python -m bench.naive.host ADDRESS``"""

import asyncio
import sys

from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost


async def main(address: str) -> None:
    host = GrpcWorkerAgentRuntimeHost(address)
    host.start()
    await host.stop_when_signal()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
