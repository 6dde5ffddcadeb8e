"""`python -m cockpit` is `cockpit`."""

from lottery_cockpit import main

main()
