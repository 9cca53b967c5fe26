// Package id makes random ids.
package id

import "github.com/kisgrid/kisgrid/pkg/kis"

// KisID returns 32 random hexadecimal digits, after the prefixes, all joined by dashes: KisID("flow") is "flow-0123…".
func KisID(prefix ...string) string { return kis.NewID(prefix...) }
