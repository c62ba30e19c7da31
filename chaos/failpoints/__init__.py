"""Every failpoint hit for real, many times, and what was lost or doubled by it: nothing, if all is well."""
