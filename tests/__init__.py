"""The tests of procd: unit, kernel, system; what each is for is in CONTRIBUTING.md."""
