// Command kisgrid is the command line of KisGrid. It runs a cluster on one machine, writes new projects, changes the definitions of a
// cluster, submits rows, and shows how a cluster, a flow, a shard key or a dead letter stands.
//
// Each command stands in a file of its own name. A command that needs a cluster calls the Admin service of one coordinator; submit
// opens a stream as any client does. The files, in reading order:
//
//   - main.go: main, and the command kisgrid with all of its subcommands.
//   - openfiles_unix.go: whether the process may open enough files for a cluster.
//   - openfiles_other.go: the same, for systems without such a limit.
//   - demo.go: demo, which runs a cluster and the students' flows in this process, and ends.
//   - dev.go: dev, which runs a cluster in this process until Ctrl-C.
//   - new.go: new, which writes a project from the templates.
//   - test.go: test and run, which run rows through flows in this process.
//   - lint.go: lint, which checks documents without a cluster.
//   - eval.go: eval, which tries an expression on rows.
//   - schema.go: schema, which prints the JSON Schema of documents and tests.
//   - rollout.go: rollout, which follows, lists and undoes changes of a flow.
//   - apply.go: apply, which writes documents and waits until workers run on them.
//   - diff.go: diff, which compares documents with those of a cluster.
//   - edit.go: edit, which opens a document in an editor and applies it.
//   - control.go: pause and resume for flows, cordon, uncordon and drain for workers.
//   - delete.go: delete, which deletes documents.
//   - export.go: export, which writes a cluster's documents into a folder.
//   - submit.go: submit, which sends rows through a flow.
//   - submit_log.go: a file that submit reads as a log.
//   - rowtypes.go: the types of a flow's rows, for CSV.
//   - waiting.go: says why a command waits for a coordinator.
//   - get.go: get, which lists flows, functions, connectors, workers and coordinators.
//   - watch.go: get --watch.
//   - describe.go: describe, which shows a thing and everything around it.
//   - types.go: the row types of functions, as get, apply and explain show them.
//   - doctor.go: doctor, which looks for everything that is wrong with a cluster.
//   - doctor_visit.go: what doctor asks each coordinator at its own addresses.
//   - top.go: top, which shows how fast flows run.
//   - keys_unix.go: single keys of a terminal, for top.
//   - keys_other.go: the same, for systems where they are not read.
//   - bench.go: bench, which runs rows through a flow again and again, and measures.
//   - peek.go: peek, which shows the content of one key of a connector.
//   - explain.go: explain, which finds the rows of one shard key.
//   - tap.go: tap, which shows rows as they pass.
//   - dead.go: dead, with list, show, edit and drop for dead letters.
//   - redrive.go: dead redrive, which runs dead letters again.
//   - dead_filter.go: the flags that select dead letters.
//   - version.go: version, which tells the builds of this program and of a coordinator.
//   - audit.go: audit, which lists who did what.
//   - config.go: config, which keeps contexts.
//   - contexts.go: the file with contexts.
//   - token.go: token, which makes tokens.
//   - server.go: the flags by which commands reach a coordinator, and the connection to it.
//   - args.go: checks arguments.
//   - complete.go: the words that a shell proposes for arguments and flags.
//   - output.go: the flag --output, and lists in every format.
//   - jsonpath.go: the templates of -o jsonpath.
//   - print.go: small functions for printing that several commands use.
package main
