package oracle

import (
	"strings"

	"github.com/kisgrid/kisgrid/internal/world/history"
)

// NoSecret checks that no secret and no content of a row stands where people who may not know it read.
//
// The promise: passwords, and values of ${NAME}, stand in no message, log or metric; no log, error or metric has the content of rows. A
// history names its secrets; the pads of rows are one of them. Nothing is excused: the world's own functions put no pad into their errors.
func NoSecret(l *Life) {
	if len(l.Secrets) == 0 {
		return
	}
	look := func(s Subject, where, text string) {
		l.checked(1)
		for _, secret := range l.Secrets {
			if secret.Text != "" && strings.Contains(text, secret.Text) {
				l.breach(s, "%s has %s: %s", where, secret.Name, cut(strings.ReplaceAll(text, secret.Text, "<"+secret.Name+">")))
			}
		}
	}
	for _, life := range l.Lives {
		s := Subject{Process: life.Process}
		for _, line := range life.Logs {
			look(s, "a log of "+life.Process, line.Text)
		}
		look(s, "the error of "+life.Process, life.Error)
		for _, snap := range life.Snaps {
			lookAtMetrics(s, snap, look)
		}
	}
	if l.Final != nil {
		for process, snap := range l.Final.Snaps {
			lookAtMetrics(Subject{Process: process}, snap, look)
		}
		for key, value := range l.Final.Etcd {
			if !strings.Contains(key, "config/") {
				look(Subject{}, "the key "+key+" in etcd", value.Value)
			}
		}
	}
	for _, b := range l.Batches {
		for _, t := range b.Tries {
			s := Subject{Flow: b.Flow, Batch: t.ID}
			look(s, "the error of a batch", t.Err)
			for _, o := range t.NotDone {
				look(rowOf{b, int(o.Row)}.subject(), "the reason of a row", o.Reason)
			}
		}
	}
	for _, c := range l.Calls {
		look(Subject{}, "the error of "+c.Verb, c.Error)
		if c.Verb != "export" && !strings.Contains(c.Verb, "dead") {
			look(Subject{}, "the answer of "+c.Verb, c.Answer)
		}
	}
}

// lookAtMetrics looks at the labels of metrics.
func lookAtMetrics(s Subject, snap history.Snap, look func(s Subject, where, text string)) {
	for _, m := range snap.Metrics {
		for name, value := range m.Labels {
			look(s, "the label "+name+" of the metric "+m.Name, value)
		}
	}
}
