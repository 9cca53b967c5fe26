// Command worker runs the students' flows, and is the template of everyone's worker: a main of one line.
package main

import (
	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

func main() { worker.Main(students.Register) }
