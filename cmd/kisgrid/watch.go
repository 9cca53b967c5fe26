package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// watchEvery is how often get --watch asks the coordinator.
const watchEvery = time.Second

// follow prints the resources, and each of them again when it has changed, until ctx is over. It goes on when the coordinator is away for a while,
// and says so once.
func (g *getter) follow(ctx context.Context, a pb.AdminClient) error {
	last := map[string]string{}
	away := false
	heading := true
	for begun := false; ; begun = true {
		got, err := g.ask(ctx, a)
		err = wire.FromStatus(err)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (!begun || !batch.CodeOf(err).Retryable() && batch.CodeOf(err) != batch.CodeNotFound):
			return err
		case err != nil && batch.CodeOf(err) == batch.CodeNotFound: // the last of the named things is gone
			got = &pb.GetResponse{}
		case err != nil && !away:
			fmt.Fprintf(g.log, "the coordinator does not answer: %v\n", err)
			away = true
		}
		if got != nil {
			away = false
			if heading, err = g.printChanges(got, last, heading); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchEvery):
		}
	}
}

// printChanges prints the resources that differ from the last ones, and notes them in last. heading says to print the heading of a table; the
// result says whether that is still to be done.
func (g *getter) printChanges(got *pb.GetResponse, last map[string]string, heading bool) (bool, error) {
	changed := &pb.GetResponse{KnownUnixMilliseconds: got.GetKnownUnixMilliseconds()}
	there := map[string]bool{}
	for _, r := range got.GetResources() {
		there[r.GetName()] = true
		now := fmt.Sprintf("%d %s", r.GetDocument().GetRevision(), r.GetStatus())
		if last[r.GetName()] != now {
			last[r.GetName()] = now
			changed.Resources = append(changed.Resources, r)
		}
	}
	for name := range last {
		if !there[name] {
			delete(last, name)
			fmt.Fprintf(g.log, "%s %s is gone\n", g.kind[:len(g.kind)-1], name)
		}
	}
	if len(changed.GetResources()) == 0 {
		return heading, nil
	}
	if g.format == "json" { // one object a line, since there is no end
		all, err := views(changed, nil)
		for _, one := range all {
			if err == nil {
				err = printJSON(g.out, one)
			}
		}
		return false, err
	}
	l, err := g.toList(changed, nil)
	if err != nil {
		return false, err
	}
	if !heading {
		l.heading = nil
	}
	return false, g.print(g.out, l)
}
