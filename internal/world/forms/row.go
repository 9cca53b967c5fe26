package forms

import (
	"strconv"
	"strings"
	"time"
)

// Row is a row of a simulated client.
type Row struct {
	Key string `json:"key"`
	// Alt is another field by which the flow may be sharded. Rows with the same Key have the same Alt.
	Alt string `json:"alt,omitempty"`
	// N is the row's number, which is unique among the rows of its client. Tags has it once more in rows that are mutated.
	N    int   `json:"n"`
	Tags []int `json:"tags,omitempty"`
	// Do says what the functions do with the row: words stage=action or stage=action:argument, with spaces between.
	Do  string `json:"do,omitempty"`
	Pad string `json:"pad,omitempty"`
	// Found is the number that a Load found, or nil. Part counts the rows that an Expand made of one row.
	Found *int `json:"found,omitempty"`
	Part  int  `json:"part,omitempty"`
}

// number returns the row's number as a function sees it: a change in place that another attempt left behind would show here.
func (r *Row) number() int {
	if len(r.Tags) > 0 && r.Tags[0] != r.N {
		return r.Tags[0]
	}
	return r.N
}

// Action is one thing that a row asks a function to do.
type Action struct {
	Stage string
	// Kind is one of:
	//
	//	slow:50ms   wait that long, and end earlier with the context
	//	sleep:50ms  wait that long, whatever the context says
	//	hang        wait until the context ends, and return its error
	//	block       wait until the worker's gate opens, which may be never
	//	panic       end by a panic
	//	error:2     return an error at the first 2 attempts; without a number at every attempt
	//	odd         return a nil pointer in an error
	//	misfit      in a Save: add a number to the key that has the list
	//	mutate      change the row in place, and return an error at the first attempt
	//	drop        kis.Drop
	//	abort       kis.Abort
	//	jump        kis.Jump to the flow's first function, at the first visit
	//	grow:20     pass on 20 rows instead of 1
	//	wide:1000   pass on a row with a pad of that many bytes
	//	poison      kill the worker process
	//	lose        pass on rows whose lineage can't be known
	Kind   string
	N      int           // the argument of error, grow and wide; 0 means none
	Lasts  time.Duration // the argument of slow and sleep
	Always bool          // an error at every attempt
}

// ParseActions reads the actions in Row.Do. Words that are no actions are left out.
func ParseActions(do string) []Action {
	var all []Action
	for word := range strings.FieldsSeq(do) {
		stage, action, ok := strings.Cut(word, "=")
		if !ok {
			continue
		}
		kind, argument, _ := strings.Cut(action, ":")
		a := Action{Stage: stage, Kind: kind}
		a.N, _ = strconv.Atoi(argument)
		a.Lasts, _ = time.ParseDuration(argument)
		a.Always = kind == "error" && a.N == 0
		all = append(all, a)
	}
	return all
}

// ActionFor returns the first action that a row asks of a stage, and false if there is none.
func ActionFor(do, stage string) (Action, bool) {
	if do == "" {
		return Action{}, false
	}
	for _, a := range ParseActions(do) {
		if a.Stage == stage {
			return a, true
		}
	}
	return Action{}, false
}
