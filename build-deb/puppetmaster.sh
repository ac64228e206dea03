#!/bin/sh
# The installed command: for people, and for the service.
home=RUN_DIR
# An earlier version kept the store beside the program: where there is one, nothing changes.
if [ ! -e $home/data/puppetmaster.db ]; then
    : "${PUPPETMASTER_DATA_DIR:=/var/lib/puppetmaster}" "${PUPPETMASTER_SETTINGS:=/etc/puppetmaster/puppetmaster.json}"
    export PUPPETMASTER_DATA_DIR PUPPETMASTER_SETTINGS
fi
export _PUPPETMASTER_CALLED="$0"  # for what it proposes to type next
PYTHONPATH=$home exec $home/venv/bin/python -P -m puppetmaster "$@"
