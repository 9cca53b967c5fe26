package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// A shell that completes a command line runs the program with the words so far. Names of flows and the like come from a coordinator then. If
// none answers within completePatience, there is nothing to propose, and no error, because a message would stand in the command line.

// completePatience is how long a person who presses Tab waits for a coordinator.
const completePatience = 2 * time.Second

// completion proposes words for an argument or a flag: those that begin with prefix. args are the arguments before it.
type completion = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective)

// complete makes a flag of cmd complete its value.
func complete(cmd *cobra.Command, flag string, f completion) {
	_ = cmd.RegisterFlagCompletionFunc(flag, f) // the flag is there, and has no other function
}

// namesOf returns a completion that proposes the names of a kind of resource, such as "flows".
func namesOf(kind string) completion {
	return proposals(func(ctx context.Context, a pb.AdminClient) ([]string, error) {
		got, err := a.Get(ctx, &pb.GetRequest{Kind: kind, Known: true})
		var names []string
		for _, r := range got.GetResources() {
			names = append(names, r.GetName())
		}
		return names, err
	})
}

// letterIDs proposes the ids of dead letters, each with its flow and code.
var letterIDs = proposals(func(ctx context.Context, a pb.AdminClient) (ids []string, err error) {
	events, err := a.ListDead(ctx, &pb.ListDeadRequest{NoRows: true, Limit: 100})
	for err == nil {
		var e *pb.DeadEvent
		if e, err = events.Recv(); e.GetLetter() != nil {
			l := letterView(e.GetLetter())
			ids = append(ids, l.ID+"\t"+l.Flow+" "+l.Function+" "+l.Code)
		}
	}
	return ids, nil // the end of the list is an error, too
})

// proposals returns a completion that proposes the words which ask returns. ask calls the coordinator that the command line names.
func proposals(ask func(context.Context, pb.AdminClient) ([]string, error)) completion {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completePatience)
		defer cancel()
		s := serverOf(cmd)
		if s == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var words []string
		err := s.admin(func(a pb.AdminClient) (err error) {
			words, err = ask(ctx, a)
			return err
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(words, func(word string) bool {
			name, _, _ := strings.Cut(word, "\t")
			return !strings.HasPrefix(word, prefix) || slices.Contains(args, name)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// serverOf returns the flags by which a command reaches a coordinator, as the command line and the environment say. nil means that the command
// has none.
func serverOf(cmd *cobra.Command) *server {
	if set := cmd.Root().PersistentPreRunE; set != nil {
		if set(cmd, nil) != nil { // takes flags from the environment
			return nil
		}
	}
	var s server
	same := &cobra.Command{}
	s.bind(same)
	complete := true
	same.Flags().VisitAll(func(f *pflag.Flag) {
		given := cmd.Flags().Lookup(f.Name)
		if given == nil {
			complete = false
		} else if given.Changed {
			complete = same.Flags().Set(f.Name, given.Value.String()) == nil && complete
		}
	})
	if !complete {
		return nil
	}
	return &s
}

// codeNames proposes the codes that dead letters may have.
func codeNames(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for name, number := range pb.Code_value {
		if name = strings.TrimPrefix(name, "CODE_"); number > 0 && strings.HasPrefix(name, strings.ToUpper(prefix)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}

// first returns a completion for a command that takes one argument: f proposes it, and further arguments have no proposals.
func first(f completion) completion {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, prefix)
	}
}

// kindThenNames returns a completion for a command whose first argument is one of the kinds, and whose further ones are names of that kind.
func kindThenNames(kinds ...string) completion {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return namesOf(plural(args[0]))(cmd, args[1:], prefix)
		}
		return slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return !strings.HasPrefix(kind, prefix) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// workerNames proposes the names of workers, each with the id of its process.
var workerNames = proposals(func(ctx context.Context, a pb.AdminClient) ([]string, error) {
	got, err := a.Get(ctx, &pb.GetRequest{Kind: "workers"})
	var names []string
	for _, r := range got.GetResources() {
		var v coordinator.WorkerView
		if json.Unmarshal(r.GetStatus(), &v) == nil { // a worker whose record can't be read has no name to propose
			names = append(names, v.Name+"\t"+v.ID)
		}
	}
	return names, err
})

// completions has the completion of the arguments of each verb that names things of a cluster.
func completions() map[string]completion {
	flow, worker, letter := first(namesOf("flows")), first(workerNames), first(letterIDs)
	return map[string]completion{
		"get":            kindThenNames("flows", "functions", "connectors", "workers", "coordinators"),
		"describe":       kindThenNames("flow", "function", "connector", "worker"),
		"edit":           kindThenNames("flow", "function", "connector"),
		"delete":         kindThenNames("flow", "function", "connector"),
		"rollout status": flow, "rollout history": flow, "rollout undo": flow, "submit": flow, "explain": flow, "tap": flow, "pause": flow, "resume": flow,
		"cordon": worker, "uncordon": worker, "drain": worker,
		"dead show": letter, "dead edit": letter, "dead redrive": letterIDs, "dead drop": letterIDs,
	}
}

// bindCompletions makes the verbs below root complete their arguments.
func bindCompletions(root *cobra.Command) {
	for path, f := range completions() {
		cmd, _, err := root.Find(strings.Fields(path))
		if err != nil {
			panic(err) // a verb of the table is not there
		}
		cmd.ValidArgs, cmd.ValidArgsFunction = nil, f
	}
}
