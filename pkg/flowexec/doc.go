// Package flowexec compiles flows and runs them. Compile makes a Plan of a flow's documents and the Go functions registered for it. Lanes runs
// the parts of batches through plans. Local does both in one process, without a cluster.
//
// A run goes through its flow function by function. Its rows stand in vectors of one Go type, with the input row that each row comes from
// beside them, so that a function that gets single rows costs one call for each row and nothing else.
//
// Programs that use KisGrid may use Local. All other names are exported for the packages of this project, and change with them: see
// docs/stability.md.
//
// The files, in the order in which rows go through them, callers first:
//
//   - local.go: Local, which runs flows in this process: its options, how it is made, Submit and Close.
//   - local_stream.go: Stream, which sends batches one after the other.
//   - local_pending.go: localFlow and Pending: a batch on its way through the lanes, and its answer.
//   - local_producer.go: producer, which gives the batches of a stream their ids and knows which may be submitted again.
//   - local_tally.go: tally, which counts the rows of a flow in a Local, for Prometheus.
//   - local_once.go: Plan.Once, which runs rows once, without lanes that stay.
//   - lane.go: Lanes, which runs one flow: its configuration, Enqueue, Release, Drain and Stop.
//   - lane_locate.go: Lanes.Locate, which finds the rows of a key that have not ended.
//   - lane_waiting.go: Lanes.Waiting, which says how many rows wait in the lanes.
//   - lane_watchdog.go: the watchdog of all lanes: timeouts of functions, and parked rows whose time has come.
//   - lane_table.go: laneTable, which has the lanes by their place; which lane gets a row; Resize.
//   - lane_queue.go: lane, with its queue and its goroutine, and what the goroutine does next.
//   - lane_executor.go: executor, the goroutine that executes the work of a lane.
//   - lane_keyless.go: keylessQueue, the queue of parts without keys for all lanes together.
//   - run.go: run, one execution of a flow over the rows of a work.
//   - run_turns.go: rounds through a stretch of the flow, in which each key has one input row.
//   - run_step.go: stepRun, which takes rows through one step of the flow, and the kinds of steps that call a function for each row.
//   - run_whole.go: steps whose function gets all rows in one call: Batch and FaaS.
//   - run_load.go: Loads, which read the keys of their rows together.
//   - run_save.go: Saves, which write the effects of their rows together.
//   - run_calls.go: calls of a function for each row, and what its errors mean: again, dropped, dead, jump.
//   - run_retry.go: when a function that has failed is called again.
//   - run_growth.go: how much functions make of their rows, and how a run is bounded.
//   - run_bound.go: bound, which ends an input row of which functions make rows without end.
//   - run_ask.go: calls to a connector beside the lane, and rows that wait for the answer.
//   - run_rest.go: how a run without keys rests.
//   - run_read.go: rows made readable for the step's function, also once more as they came.
//   - run_pack.go: the parked rows of a run packed into a parcel, and a parcel's rows that go on as a run.
//   - run_park.go: parking, the rows of a run that have parked and the keys that later rows may not overtake.
//   - run_carry.go: how another goroutine goes on when a function does not return.
//   - run_made.go: rows that a function has made: which rows they come from, and nil pointers among them.
//   - run_output.go: the rows that the last function passes on, as output.
//   - run_send.go: verdicts on the rows that do not go on, and where rows are sent from a step.
//   - run_dead.go: dead rows, as they entered their function.
//   - run_ledger.go: ledger, the outcomes of a run's rows.
//   - run_behind.go: rows of a log behind a failed row of their key.
//   - run_lineage.go: names of rows by their lineage.
//   - run_connections.go: connections that functions hold while they run.
//   - run_tap.go: rows copied for taps, at the function under way.
//   - run_trace.go: spans and metrics of runs, functions and calls.
//   - run_user_code.go: calls of code of the user's under the guard, its panics, and what it may ask of its call.
//   - run_guard.go: guard, with which the watchdog ends calls that take too long.
//   - run_time.go: budgets, the time that rows have used up.
//   - run_fault.go: fault, why a row could not be done.
//   - park_rows.go: parkedRows, the rows with keys that have parked in a lane: their queues, times and release.
//   - park_rest.go: restingRun and restingRuns, the runs without keys that rest in a lane.
//   - park_sources.go: waitSources, what parked rows and resting runs can wait for.
//   - park_keys.go: keyWatch, which tells waiting rows that a key was saved.
//   - park_saves.go: Saves, which tells waiting rows that something was saved through their connector.
//   - park_parcel.go: what had become of rows before they parked, and how it joins their results.
//   - park_group.go: group and parcel: rows that parked together, and their memory; the life of a group.
//   - park_along.go: what parked rows bring along when they go on.
//   - park_answers.go: how parked rows wait for the answer of a call to their connector.
//   - park_waiter.go: why there are two ways of waiting, and the interfaces that both have.
//   - plan.go: Plan and step; Compile.
//   - plan_all.go: CompileAll, for all flows of a set and their mistakes.
//   - plan_bind.go: the code behind a step.
//   - expr_code.go: exprCode, the code of a function whose document has expressions.
//   - expr_call.go: its calls: rows as inputs of expressions, and their values as new rows.
//   - expr_raw.go: the same for rows that stay JSON.
//   - expr_row.go: expressions in the keys and values of declared Saves and Loads.
//   - expr_vector.go: structVector, rows of a type that is made when a flow is compiled.
//   - plan_warnings.go: Plan.Warnings, slips that keep no flow from running.
//   - plan_inputs.go: how the rows of each step are read: row types, and rows decoded once for several functions.
//   - plan_fields.go: the fields of row types, and whether neighbouring steps agree on them.
//   - plan_types.go: what is known of rows between steps, as Go types and as types of expressions.
//   - plan_stretches.go: the stretches of a flow.
//   - plan_notes.go: Plan.Notes, where results depend on how rows are cut into batches.
//   - work.go: work, rows of a part that a lane executes together, and how it is cut and given back.
//   - release.go: which lane has a key, and which rows a Release asks for.
//   - part.go: Part, the rows that Enqueue is given, and RunResult, how they ended.
//   - tap.go: Tap, which copies rows for somebody who looks.
//   - connectors.go: Connectors, which hands out connections.
//   - weigher.go: weigher, which estimates how many bytes rows take.
//   - metrics.go: Metrics, the metrics of lanes and functions.
//   - metrics_totals.go: FunctionTotals, the counts of functions that a worker tells coordinators.
//   - metrics_kisflow.go: KisFlowMetrics, the same under KisFlow's names.
//   - counts.go: counts of pending runs and of busy lanes.
//   - clock.go: clock, by which parked rows and resting runs measure time.
//   - points.go: the points, which count how often rare branches were reached.
package flowexec
