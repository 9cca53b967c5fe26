// Package id makes random ids.
package id

import "github.com/kisgrid/kisgrid/pkg/kis"

// KisID is 32 random hexadecimal digits behind prefixes, joined by dashes: flow-0123….
func KisID(prefix ...string) string { return kis.NewID(prefix...) }
