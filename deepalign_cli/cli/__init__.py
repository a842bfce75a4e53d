"""The command line: parse, call, show. The only place of deepalign that prints or exits."""
