'use client'

import { useActionState } from 'react'

import { addTask, completeTask, deleteTask, type Failure } from './actions'
import type { Task } from '@/lib/backend'

type Action = (last: Failure, form: FormData) => Promise<Failure>

export function AddTask({ maxLength }: { maxLength: number }) {
  const [failure, submit, pending] = useActionState(addTask, null)
  return (
    <form action={submit} className="add">
      <label htmlFor="title">New task</label>
      <div className="field">
        <input id="title" name="title" required maxLength={maxLength} autoComplete="off" placeholder="Buy milk" />
        <button disabled={pending}>Add</button>
      </div>
      <Alert text={failure} />
    </form>
  )
}

export function TaskRow({ task }: { task: Task }) {
  return (
    <li className={task.done ? 'task done' : 'task'}>
      <span className="title">
        {task.title}
        {task.done && <span className="tag">done</span>}
      </span>
      <div className="actions">
        {!task.done && <TaskButton task={task} action={completeTask} label="Complete" />}
        <TaskButton task={task} action={deleteTask} label="Delete" />
      </div>
    </li>
  )
}

function TaskButton({ task, action, label }: { task: Task; action: Action; label: string }) {
  const [failure, submit, pending] = useActionState(action, null)
  return (
    <form action={submit}>
      <input type="hidden" name="id" value={task.id} />
      <button className="quiet" disabled={pending} aria-label={`${label}: ${task.title}`}>
        {label}
      </button>
      <Alert text={failure} />
    </form>
  )
}

function Alert({ text }: { text: Failure }) {
  return text && <p role="alert">{text}</p>
}
