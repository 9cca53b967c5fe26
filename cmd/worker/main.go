// Command worker is a worker with the functions of the students' example. It is the template for every worker: main gives the function
// that registers the functions to worker.Main, which does everything else.
package main

import (
	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// main runs a worker with the functions of the students' example.
func main() { worker.Main(students.Register) }
