// Package serialize has the default way to read and write rows.
package serialize

import "github.com/kisgrid/kisgrid/pkg/kis"

// DefaultSerialize reads and writes rows as JSON. Row types may embed it, as KisFlow asks for; KisGrid reads and writes other
// types as JSON as well.
type DefaultSerialize = kis.DefaultSerialize
