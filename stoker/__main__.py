"""The command line: `python -m stoker COMMAND`; bin/stoker runs it from any folder."""

import sys

if __name__ == "__main__":
    try:
        from stoker.command_line import main

        sys.exit(main())
    except KeyboardInterrupt:  # also while all that is loaded
        sys.exit(130)
