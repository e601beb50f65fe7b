import { connection } from 'next/server'

import { AddTask, TaskRow } from './forms'
import { BackendError, listTasks, MAX_TITLE_LENGTH, type Task } from '@/lib/backend'

export default async function Page() {
  // Never rendered at build time, when there is no backend.
  await connection()
  const tasks = await tasksOrFailure()
  return (
    <main>
      <h1>Tasks</h1>
      <AddTask maxLength={MAX_TITLE_LENGTH} />
      {typeof tasks === 'string' ? <p role="alert">{tasks}</p> : <TaskList tasks={tasks} />}
    </main>
  )
}

function TaskList({ tasks }: { tasks: Task[] }) {
  const open = tasks.filter((task) => !task.done).length
  return (
    <section aria-labelledby="summary">
      <h2 id="summary" role="status">
        {tasks.length === 0 ? 'Nothing to do yet' : `${open} open, ${tasks.length - open} done`}
      </h2>
      <ul>
        {tasks.map((task) => (
          <TaskRow key={task.id} task={task} />
        ))}
      </ul>
    </section>
  )
}

async function tasksOrFailure(): Promise<Task[] | string> {
  try {
    return await listTasks()
  } catch (error) {
    if (error instanceof BackendError) return error.message
    throw error
  }
}
