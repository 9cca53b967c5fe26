// Package flowexec compiles flows and runs them: Compile makes a Plan of a flow's documents and the functions registered
// for it, Lanes run the parts of batches through plans, and Local does both in process, without a cluster.
//
// A run goes through its flow function by function. Its rows stand in vectors of one Go type, with the input row that each
// comes from beside them, so that a row function costs a call for each row and nothing else.
//
// Local is for programs of others. All else is exported for the project's own and changes with them: see docs/stability.md.
package flowexec
