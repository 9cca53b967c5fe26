// Package serialize has the default way to read and write rows.
package serialize

import "github.com/kisgrid/kisgrid/pkg/kis"

// DefaultSerialize reads and writes rows as JSON. KisFlow wants row types to embed it. In KisGrid they may, and need not:
// rows of other types are read and written as JSON too.
type DefaultSerialize = kis.DefaultSerialize
