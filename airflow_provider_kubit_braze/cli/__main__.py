"""``python -m airflow_provider_kubit_braze.cli``, where the console script is not on the path."""

import sys

from airflow_provider_kubit_braze.cli.parser import main

sys.exit(main())
