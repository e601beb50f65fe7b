'use server'

/**
 * What the page's forms do. Next.js refuses an action whose Origin is another site's.
 * Each succeeds with a redirect, so that without JavaScript a reload does not do it again.
 */

import { redirect } from 'next/navigation'

import * as backend from '@/lib/backend'

/** What the last try of a form came to: null, or a sentence saying why it failed. */
export type Failure = string | null

export async function addTask(_last: Failure, form: FormData): Promise<Failure> {
  const title = text(form, 'title').trim()
  if (title === '') return 'Write what is to be done first.'
  if ([...title].length > backend.MAX_TITLE_LENGTH) {
    return `A task has at most ${backend.MAX_TITLE_LENGTH} characters.`
  }
  return attempt(() => backend.addTask(title))
}

export async function completeTask(_last: Failure, form: FormData): Promise<Failure> {
  return withTaskId(form, backend.completeTask)
}

export async function deleteTask(_last: Failure, form: FormData): Promise<Failure> {
  return withTaskId(form, backend.deleteTask)
}

async function withTaskId(form: FormData, change: (id: number) => Promise<void>): Promise<Failure> {
  const id = text(form, 'id')
  if (!/^[1-9]\d{0,9}$/.test(id)) return 'That is not the number of a task.'
  return attempt(() => change(Number(id)))
}

async function attempt(change: () => Promise<void>): Promise<Failure> {
  try {
    await change()
  } catch (error) {
    if (error instanceof backend.BackendError) return error.message
    throw error
  }
  redirect('/')
}

function text(form: FormData, field: string): string {
  const value = form.get(field)
  return typeof value === 'string' ? value : ''
}
