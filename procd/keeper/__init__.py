"""The keeper: the process that holds what must outlive the supervisor; and how the others talk to it.

Owns the first process of procd: it starts the supervisor and the logger again when they die or hang, holds
their records and descriptors meanwhile, and reaps what they had started.  Must not know what a program is, nor
what is in a record.

    the keeper's process (the standard library only, lint-imports holds it)
      __main__     its arguments
      keeper       the loop: signals, reaping, beats, the end
      child        one process that it keeps running, and the channel to it
      requests     what its children ask of it
      table        what is remembered for a child, and the bounds of all that
      succession   how the keeper's next program takes over, in the same process
      orphans      what /proc says of processes
      pace         how long it waits for whom
      outside      standard error and the service manager, neither of which may make it wait
      messages     what goes through a channel

    the other ends
      line         a channel without a loop; for the logger
      client       `Memory`: a channel on an asyncio loop; for the supervisor
      bequest      a supervisor whose keeper is dead waits for a successor
      inheritance  the successor, which takes over for its own keeper
      launch       the command that becomes the keeper
"""
