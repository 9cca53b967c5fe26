package flowexec

import "errors"

var errShutdown = errors.New("the worker is shutting down")

type executor struct{}

func (l *Lanes) watch() { <-l.ctx.Done() }

func (ln *lane) start(resume *work) {
	go func() {
		defer ln.lanes.wg.Done()
		for w := ln.next(); w != nil; w = ln.next() {
			w.part.Done(w.returned())
			ln.rows.Add(-int64(w.len()))
			ln.lanes.end()
		}
	}()
}
