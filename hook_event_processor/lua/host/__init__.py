"""The host that hooks reach: the files and programs of modules file and exec, within what policy grants."""
