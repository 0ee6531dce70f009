"""The theory: schedules, noise, denoisers, likelihoods; nothing here knows an application or a network's inside."""
