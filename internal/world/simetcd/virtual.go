package simetcd

import (
	_ "unsafe" // for linkname

	_ "go.etcd.io/etcd/client/v3" // makes the channel before init below
)

// neverDone is the channel of the contexts with which the etcd client opens watches: nobody closes it. A goroutine of the client that waits
// for it too, besides channels of a bubble, would keep the bubble's time from going on, since the channel was made outside of every bubble.
// A nil channel means the same, and nobody waits for it.
//
//go:linkname neverDone go.etcd.io/etcd/client/v3.valCtxCh
var neverDone chan struct{}

func init() { neverDone = nil } //nolint:gochecknoinits // it must happen before any client exists
