// Package serialize has the way in which rows are read where their type has none of its own.
package serialize

import "github.com/kisgrid/kisgrid/pkg/kis"

// DefaultSerialize reads rows as JSON. Row types may embed it; they are read so without it too.
type DefaultSerialize = kis.DefaultSerialize
