// Package e2e drives the built programs as an operator does: as processes, against a real etcd and a real Redis where these are
// installed, and against embedded ones elsewhere.
package e2e

import (
	"os"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testprocess"
)

func TestMain(m *testing.M) { os.Exit(testprocess.Main(m, "../cmd/...")) }
